"""The chapter on GPT: the formula that exercise 2 asks for gives the number in its text."""
from tutorlib.exercises.gpt import gpt_parameters


def test_the_formula_gives_the_size_of_gpt_2():
    assert gpt_parameters(vocabulary=50257, length=1024, width=768, layers=12) == 124_439_808
