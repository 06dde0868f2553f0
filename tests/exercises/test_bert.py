"""The chapter on BERT: the count that exercise 4 asks for is that of the model."""
from tutorlib.exercises.bert import count
from tutorlib.models import BERT, BERTConfig


def test_the_formula_counts_the_parameters_of_the_model():
    config = BERTConfig(vocabulary=101, max_length=17, token_types=2, width=12, hidden=20, num_heads=3, num_layers=2)
    assert count(101, 17, 2, 12, 20, 2) == sum(parameter.numel() for parameter in BERT(config).parameters())
