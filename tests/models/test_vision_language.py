"""A GPT with a picture before its words: who sees whom, where the answer is read, what it refuses, that it learns."""

import pytest
import torch
from torch import nn

from tests.closeness import assert_same, draw
from tutorlib.models import GPT, GPTConfig, VisionLanguage
from tutorlib.models.vision_language import ConvolutionalStem, answer_loss, at_mark

MARK = 2


def small(seed=0, length=8):
    """Four image tokens, of 16 x 16 pixels; weights large enough to count."""
    torch.manual_seed(seed)
    language = GPT(GPTConfig(vocabulary=11, max_length=length, width=8, num_heads=2, num_layers=2))
    model = VisionLanguage(ConvolutionalStem((3, 4, 5, 6)), language).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def test_padding_and_later_words_change_nothing_before_them():
    model, images = small(), draw(1, 3, 16, 16).expand(2, -1, -1, -1)
    logits = model(images, torch.tensor([[5, MARK, 0, 0], [5, MARK, 7, 3]]))
    assert_same(logits[0, :2], logits[1, :2])
    assert_same(logits[:1, :2], model(images[:1], torch.tensor([[5, MARK]])))
    assert (logits[0, 2] - logits[1, 2]).abs().max() > 1e-2


def test_every_word_sees_every_part_of_the_picture():
    model, tokens = small(), torch.tensor([[5, 6, MARK]])
    images = draw(1, 3, 16, 16)
    before = model(images, tokens)
    for rows in (slice(0, 4), slice(12, 16)):
        changed = images.clone()
        changed[..., rows, :] += 1
        assert ((model(changed, tokens) - before).abs().amax(-1) > 1e-3).all()


def test_the_first_part_of_the_picture_knows_of_the_last(device):
    """With the causal mask it does not; the words then see the same tokens, which have seen less."""
    model = small().to(device)
    seen = {}
    for name, mask in (("prefix", model.mask), ("causal", lambda prefix, length, device: model_causal(length, device))):
        model.mask = mask
        states = []
        hook = model.language.layers[-1].register_forward_hook(lambda *call, keep=states: keep.append(call[-1]))
        images = draw(1, 3, 16, 16, device=device)
        changed = images.clone()
        changed[..., 12:, 12:] += 1  # beyond the reach of the first window
        for each in (images, changed):
            model(each, torch.tensor([[MARK]], device=device))
        hook.remove()
        seen[name] = (states[0][:, 0] - states[1][:, 0]).abs().max().item()
    assert seen["prefix"] > 1e-3 and seen["causal"] < 1e-5


def model_causal(length, device):
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def test_the_answer_is_read_at_the_first_mark_and_only_there():
    tokens = torch.tensor([[5, MARK, 0], [5, 6, MARK], [MARK, MARK, MARK]])
    logits = draw(3, 3, 11)
    assert torch.equal(at_mark(logits, tokens, MARK), torch.stack([logits[0, 1], logits[1, 2], logits[2, 0]]))
    logits.requires_grad_()
    answer_loss(logits, tokens, torch.tensor([1, 2, 3]), MARK).backward()
    assert (logits.grad.abs().sum(-1) > 0).tolist() == [[False, True, False], [False, False, True], [True, False, False]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_and_dtype_follow_the_model(dtype, device):
    model = small().to(device, dtype)
    logits = model(draw(3, 3, 16, 16, dtype=dtype, device=device), torch.tensor([[1, MARK]] * 3, device=device))
    assert (logits.shape, logits.dtype, logits.device.type) == ((3, 2, 11), dtype, device.type)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_any_module_with_a_width_serves_as_eyes():
    class Rows(nn.Module):
        width = 3

        def forward(self, images):
            return images.mean(-1).mT  # (B, H, C)

    model = VisionLanguage(Rows(), GPT(GPTConfig(vocabulary=11, max_length=6, width=8, num_heads=2, num_layers=1)))
    assert model(draw(2, 3, 4, 9), torch.tensor([[5, MARK]] * 2)).shape == (2, 2, 11)


def test_wrong_arguments_are_refused():
    model, images = small(), draw(2, 3, 16, 16)
    with pytest.raises(ValueError, match="images must be as many as the rows of tokens, 1, got 2"):
        model(images, torch.tensor([[MARK]]))
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 11\)"):
        model(images, torch.tensor([[11], [MARK]]))
    with pytest.raises(ValueError, match="reaches position 9, but max_length is 8"):
        model(images, torch.full((2, 5), MARK))


def test_it_overfits_one_batch():
    """The same question of eight pictures, whose answers differ."""
    torch.manual_seed(0)
    model = VisionLanguage(ConvolutionalStem((3, 8, 8, 8)),
                           GPT(GPTConfig(vocabulary=11, max_length=8, width=16, num_heads=2, num_layers=1)))
    images, tokens, answers = draw(8, 3, 16, 16), torch.tensor([[5, MARK, 0]] * 8), torch.arange(3, 11)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = answer_loss(model(images, tokens), tokens, answers, MARK)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 and torch.equal(at_mark(model(images, tokens), tokens, MARK).argmax(1), answers)
