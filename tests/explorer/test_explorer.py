"""The GPT in the page computes what tutorlib's GPT computes with the same weights: in Chromium, from the disk, network off."""

import re

import pytest
import torch
from torch.testing import assert_close

from tutorlib.compression.int8 import packed, unpacked
from tutorlib.explorer import Explorer
from tutorlib.models import GPT, GPTConfig
from tutorlib.text.bpe import BytePairTokenizer

TEXT = "The king said to Moses, 'Go up to the mountain' — and he went; 40 days he'd been there.\n\n" * 3
HEADS, LAYERS, LENGTH = 3, 2, 24
NODE = "document.querySelector('.gpt-explorer')"


def example(activation: str = "gelu", **options) -> tuple[GPT, BytePairTokenizer]:
    """A model with drawn weights, as the page will have them, large enough that attention is uneven."""
    tokenizer = BytePairTokenizer.train(TEXT, 300)
    torch.manual_seed(0)
    sizes = {"width": 12, "num_heads": HEADS, "num_layers": LAYERS, "hidden": 20, "activation": activation} | options
    model = GPT(GPTConfig(len(tokenizer), LENGTH, **sizes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    model.load_state_dict(unpacked(packed(model)))
    return model, tokenizer


def test_packing_keeps_what_was_int8_and_rounds_by_half_a_step():
    model, _ = example()
    again = unpacked(packed(model))
    for name, tensor in model.state_dict().items():
        assert_close(again[name], tensor, rtol=1e-6, atol=1e-7)
    torch.nn.init.normal_(model.layers[0].attention.query.weight)
    tensors = packed(model)
    name = "layers.0.attention.query.weight"
    off = (unpacked(tensors)[name] - model.state_dict()[name]).abs()
    assert tensors[name].dtype == torch.int8
    assert bool((off <= tensors[f"{name}.scale"] / 2 * (1 + 1e-5)).all()) and off.max() > 0


@pytest.mark.parametrize("options, named", [({"activation": "relu"}, "activation"), ({"tie_output": False}, "tied output")])
def test_a_model_that_the_page_cannot_run_is_refused(options, named):
    model, tokenizer = example()
    config = GPTConfig(len(tokenizer), LENGTH, width=12, num_heads=HEADS, num_layers=LAYERS, **options)
    with pytest.raises(ValueError, match=named):
        Explorer(GPT(config), tokenizer, "The")
    with pytest.raises(ValueError, match="prompt must hold at least one token, got ''"):
        Explorer(model, tokenizer, "")
    with pytest.raises(ValueError, match=f"tokenizer must have the model's {len(tokenizer)} tokens, got 256"):
        Explorer(model, BytePairTokenizer([]), "The")


def test_the_output_is_the_same_bytes_each_time():
    first, second = Explorer(*example(), "The king"), Explorer(*example(), "The king")
    assert first._repr_html_() == second._repr_html_() and repr(first) == repr(second)
    assert first._repr_html_() != Explorer(*example(), "The king", inside=False)._repr_html_()


class Opened:
    """A page that holds an explorer alone, and what it asked for or complained about."""

    def __init__(self, browser, folder, activation: str):
        self.model, self.tokenizer = example(activation)
        path = folder / f"{activation}.html"
        shown = Explorer(self.model, self.tokenizer, "The king said")._repr_html_()
        path.write_text(f"<!doctype html><meta charset=utf8>{shown}", "utf8")
        self.page, self.problems = browser.new_page(), []
        self.page.on("request", lambda request: request.url == path.as_uri() or self.problems.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.goto(path.as_uri())

    def forward(self, tokens: list[int]) -> list[dict]:
        plain = "row => ({...row, logits: Array.from(row.logits)})"
        return self.page.evaluate(f"tokens => {NODE}.gpt.forward(tokens).map({plain})", tokens)

    def logits(self, tokens: list[int]) -> torch.Tensor:
        return torch.tensor([row["logits"] for row in self.forward(tokens)])

    @property
    def note(self) -> str:
        return self.page.locator(".note").inner_text()

    def write(self, text: str) -> None:
        self.page.locator("textarea").fill(text)

    def shown(self) -> list[str]:
        return self.page.locator(".chips button").all_inner_texts()


@pytest.fixture(scope="module", params=["gelu", "gelu_tanh"])
def opened(request, chromium, tmp_path_factory):
    found = Opened(chromium, tmp_path_factory.mktemp("explorer"), request.param)
    yield found
    found.page.close()
    assert found.problems == []


@pytest.fixture
def one(chromium, tmp_path):
    """A page of its own, for what changes it."""
    found = Opened(chromium, tmp_path, "gelu")
    yield found
    found.page.close()
    assert found.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2, 13, LENGTH])
def test_logits_are_pytorchs(opened, length):
    tokens = torch.randint(len(opened.tokenizer), (1, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        assert_close(opened.logits(tokens[0].tolist()), opened.model(tokens)[0], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_what_was_read_before_changes_nothing(opened):
    """The cache holds for the common beginning and for nothing else."""
    first, second = [5, 9, 70, 3, 8], [5, 9, 71, 3]
    opened.forward(first)
    after_another = opened.logits(second)
    opened.forward([1])
    assert torch.equal(after_another, opened.logits(second))
    assert len(opened.logits(second[:2])) == 2


@pytest.mark.slow
def test_every_head_looks_where_pytorchs_does(opened):
    tokens = torch.randint(len(opened.tokenizer), (1, 17), generator=torch.Generator().manual_seed(0))
    found = opened.forward(tokens[0].tolist())
    states = opened.model.position(opened.model.embedding(tokens))
    for n, layer in enumerate(opened.model.layers):
        _, expected = layer.attention(layer.attention_norm(states), causal=True, return_weights=True)
        for t, row in enumerate(found):
            for head, weights in enumerate(row["maps"][n]):
                assert len(weights) == t + 1  # what comes later has no weight at all
                assert_close(torch.tensor(weights, dtype=torch.float32), expected[0, head, t, :t + 1], rtol=0, atol=1e-5)
        states = layer(states, causal=True)


@pytest.mark.slow
def test_a_head_switched_off_equals_the_model_without_it(one):
    one.page.get_by_label("Layer 2, head 3 is on").uncheck()
    one.page.get_by_label("Layer 1, head 1 is on").uncheck()
    K = one.model.config.width // HEADS
    with torch.no_grad():
        for layer, head in ((1, 2), (0, 0)):
            one.model.layers[layer].attention.output.weight[:, head * K:(head + 1) * K] = 0
        tokens = one.tokenizer.encode("The king said to Moses")
        assert_close(one.logits(tokens), one.model(torch.tensor([tokens]))[0], rtol=0, atol=1e-4)
    assert "With 2 heads off: " in one.note
    one.page.get_by_label("Layer 2, head 3 is on").check()
    one.page.get_by_label("Layer 1, head 1 is on").check()
    assert "off" not in one.note


@pytest.mark.slow
@pytest.mark.parametrize("text", [TEXT, "  two  blanks ", "café 42nd — 摩西\n\n\tx", "he'll isn't 'Tis", "🙂"])
def test_a_text_becomes_the_tokens_of_tutorlib(opened, text):
    found = opened.page.evaluate(f"text => {NODE}.tokenizer.encode(text)", text)
    assert found == opened.tokenizer.encode(text)
    assert opened.page.evaluate(f"ids => {NODE}.tokenizer.decode(ids)", found) == text


@pytest.mark.slow
def test_the_next_tokens_are_the_models_at_each_temperature(one):
    tokens = torch.tensor([one.tokenizer.encode("The king said")])
    slider = one.page.get_by_label("temperature")
    for heat in (0.5, 2.0):
        slider.fill(str(heat))
        with torch.no_grad():
            p, best = (one.model(tokens)[0, -1] / heat).softmax(-1).topk(10)
        shown = one.page.locator(".bars .number").all_inner_texts()
        assert [float(number) for number in shown] == pytest.approx(p.tolist(), abs=6e-4)
    one.page.locator(".bars button").first.click()  # a reader writes the likeliest
    assert one.page.evaluate(f"{NODE}.gpt.seen") == tokens[0].tolist() + [int(best[0])]


@pytest.mark.slow
def test_surprise_is_the_mean_loss_in_bits(one):
    tokens = torch.tensor([one.tokenizer.encode("The king said to Moses")])
    one.write("The king said to Moses")
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(one.model(tokens)[0, :-1], tokens[0, 1:]) / torch.log(torch.tensor(2.0))
    assert float(re.search(r"([\d.]+) bits a token", one.note)[1]) == pytest.approx(loss.item(), abs=0.006)
    assert len(one.shown()) == tokens.size(1)


@pytest.mark.slow
def test_texts_that_are_empty_or_too_long_get_a_sentence(one):
    one.write("")
    assert "Type something" in one.note and one.page.locator(".panes").is_hidden()
    assert one.page.get_by_role("button", name="Write on").is_disabled()  # nothing to go on from
    long = "the king " * 40
    one.write(long)
    assert f"the last ones: at most {LENGTH}" in one.note and len(one.shown()) == LENGTH
    one.page.get_by_role("button", name="Next token").click()
    one.page.wait_for_function(f"{NODE}.gpt.seen.length === {LENGTH // 2 + 1}")  # it goes on from the later half
    assert one.page.locator("textarea").input_value().startswith(long)  # and takes nothing from what a reader wrote


@pytest.mark.slow
def test_it_writes_and_stops_and_starts_again(one):
    one.page.get_by_role("button", name="Write on").click()
    one.page.wait_for_function(f"{NODE}.gpt.seen.length > 8")
    one.page.get_by_role("button", name="Stop").click()
    text = one.page.locator("textarea").input_value()
    one.page.wait_for_timeout(100)
    assert one.page.locator("textarea").input_value() == text
    one.page.get_by_label("temperature").fill("2")
    one.page.get_by_label("Layer 1, head 2 is on").uncheck()
    assert one.page.get_by_label("Show layer 1, head 2").get_attribute("aria-pressed") == "true"
    one.page.get_by_role("button", name="Start again").click()
    assert one.page.locator("textarea").input_value() == "The king said"
    assert one.page.get_by_label("Layer 1, head 2 is on").is_checked() and "off" not in one.note
    assert one.page.get_by_label("temperature").input_value() == "0.8"


@pytest.mark.slow
def test_the_keyboard_does_all_and_everything_has_a_name(one):
    one.page.locator("textarea").focus()
    one.page.keyboard.press("Tab")
    one.page.keyboard.press("Enter")  # the next token
    one.page.wait_for_function(f"{NODE}.gpt.seen.length > 3")
    one.page.locator(".chips button").first.focus()
    one.page.keyboard.press("Enter")
    assert one.page.locator(".chips button").first.get_attribute("aria-pressed") == "true"
    assert "came" in one.page.locator("section .title").first.inner_text()
    named = "node.ariaLabel || node.innerText?.trim() || node.labels?.length || node.ariaHidden"
    parts = f"[...{NODE}.querySelectorAll('button, input, textarea, canvas')]"
    assert one.page.evaluate(f"{parts}.filter(node => !({named})).length") == 0
