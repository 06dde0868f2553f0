"""Small language models that the tests of models share."""

from torch import nn

from tutorlib.models import BERTConfig, GPTConfig, LlamaConfig

GPT_SIZES = GPTConfig(vocabulary=23, max_length=12, width=16, num_heads=2, num_layers=2)
LLAMA_SIZES = LlamaConfig(vocabulary=23, max_length=12, width=16, num_heads=4, num_key_value_heads=2, num_layers=2, hidden=20)
BERT_SIZES = BERTConfig(vocabulary=23, max_length=12, width=16, num_heads=2, num_layers=2, hidden=20)


def shaken(model: nn.Module) -> nn.Module:
    """Weights large enough that every position matters to every other."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()
