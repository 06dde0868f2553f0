"""CLIP against transformers: logits, loss and every gradient, on drawn configs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPConfig, CLIPModel

from tests.closeness import assert_same
from tests.peers import assert_copied, shaken
from tutorlib.pretrained import from_transformers
from tutorlib.pretrained.huggingface.clip import TABLE
from tutorlib.pretrained.weights import rename
from tutorlib.training.contrastive import contrastive_loss

VOCABULARY, LENGTH, END = 13, 9, 7


def clip(heads=2, text_heads=2, per_head=4, layers=2, text_layers=1, hidden=12, patch=4, across=3, channels=2, embedding=6,
         activation="quick_gelu", eps=1e-5, image=None, text=None) -> nn.Module:
    both = dict(intermediate_size=hidden, hidden_act=activation, layer_norm_eps=eps)
    return CLIPModel(CLIPConfig(
        projection_dim=embedding,
        vision_config=both | dict(hidden_size=heads * per_head, num_attention_heads=heads, num_hidden_layers=layers,
                                  image_size=patch * across, patch_size=patch, num_channels=channels) | (image or {}),
        text_config=both | dict(hidden_size=text_heads * per_head, num_attention_heads=text_heads, vocab_size=VOCABULARY,
                                num_hidden_layers=text_layers, max_position_embeddings=LENGTH, eos_token_id=END,
                                bos_token_id=1, pad_token_id=0) | (text or {})))


def texts(number: int) -> torch.Tensor:
    """Rows with an end at a drawn place, and anything but an end behind and before it; some hold two ends."""
    tokens = torch.randint(VOCABULARY, (number, LENGTH))  # (N, T)
    return tokens.scatter(1, torch.randint(LENGTH, (number, 1)), END)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 4), heads=st.sampled_from([1, 3]), text_heads=st.sampled_from([1, 2]),
       per_head=st.integers(1, 5), layers=st.integers(1, 3), text_layers=st.integers(1, 3), hidden=st.integers(1, 24),
       patch=st.integers(1, 5), across=st.integers(1, 4), channels=st.integers(1, 3), embedding=st.integers(2, 9),
       activation=st.sampled_from(["quick_gelu", "gelu", "relu"]), eps=st.sampled_from([1e-5, 0.1]),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_clip(seed, batch, channels, patch, across, dtype, **sizes):
    torch.manual_seed(seed)
    reference = shaken(clip(channels=channels, patch=patch, across=across, **sizes), dtype)
    ours = from_transformers(reference)
    images = torch.randn(batch, channels, patch * across, patch * across, dtype=dtype, requires_grad=True)
    tokens = texts(batch)
    result = reference(input_ids=tokens, pixel_values=images, return_loss=True)
    mine = ours(images, tokens)
    assert_same(mine, result.logits_per_image)
    assert_same(ours.encode_image(images), result.image_embeds)
    assert_same(ours.encode_text(tokens), result.text_embeds)
    loss = contrastive_loss(mine)
    assert_same(loss, result.loss)
    if dtype == torch.float64:  # in float32 a key's bias, whose gradient is zero, has rounding alone
        loss.backward()
        pixels, images.grad = images.grad, None
        result.loss.backward()
        assert_same(pixels, images.grad, "gradient of the images")
        expected = rename({name: parameter.grad for name, parameter in reference.named_parameters()}, TABLE)
        for name, parameter in ours.named_parameters():
            assert_same(parameter.grad, expected[name].view_as(parameter), f"gradient of {name}")


def test_there_may_be_more_texts_than_images():
    reference = shaken(clip())
    images, tokens = torch.randn(2, 2, 12, 12), texts(5)
    theirs = reference(input_ids=tokens, pixel_values=images)
    assert_same(from_transformers(reference)(images, tokens), theirs.logits_per_image)


def test_weights_are_copied():
    reference = shaken(clip())
    ours = from_transformers(reference)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters())
    assert_copied(ours, reference)


def test_mode_dtype_and_dropouts_are_taken_over(device):
    reference = clip(image={"attention_dropout": 0.2}, text={"attention_dropout": 0.3}).to(device, torch.bfloat16)
    ours = from_transformers(reference.train())
    assert ours.training and not from_transformers(reference.eval()).training
    assert ours.image.encoder.layers[1].attention.dropout == 0.2 and ours.text.encoder.layers[0].attention.dropout == 0.3
    images = torch.randn(2, 2, 12, 12, device=device, dtype=torch.bfloat16)
    assert ours(images, texts(3).to(device)).dtype == torch.bfloat16


@pytest.mark.parametrize("options, message", [
    ({"text": {"eos_token_id": 2}}, r"text_config.eos_token_id=2\) is not supported, only one token other than 2"),
    ({"text": {"hidden_act": "gelu"}}, r"vision_config.hidden_act=quick_gelu\) is not supported, only the text's, gelu"),
    ({"image": {"layer_norm_eps": 0.1}}, r"vision_config.layer_norm_eps=0.1\) is not supported, only the text's, 1e-05"),
    ({"activation": "mish"}, r"text_config.hidden_act=mish\) is not supported, only one of \['gelu'"),
    ({"image": {"image_size": 14}}, r"vision_config.image_size=14\) is not supported, only a multiple of patch_size=4"),
])
def test_options_that_ours_lacks_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        from_transformers(clip(**options))


def test_a_module_that_the_config_belies_is_refused():
    reference = clip()
    reference.vision_model.pre_layrnorm = nn.LayerNorm(8, eps=0.1)
    with pytest.raises(ValueError, match=r"pre_layrnorm.eps=0.1\) is not supported, only 1e-05"):
        from_transformers(reference)
