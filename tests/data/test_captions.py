"""Captioned pictures: which captions are unseen, that a picture shows its caption, seeds, refusals."""

from itertools import combinations

import pytest
import torch

from tutorlib.data.captions import (
    CAPTIONS,
    COLORS,
    PLACES,
    SHAPES,
    UNSEEN,
    VOCABULARY,
    caption_tokens,
    make_captioned,
    numbers_of_caption,
)


def test_captions_are_all_combinations():
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 216 == len(COLORS) * len(SHAPES) * len(PLACES)
    assert CAPTIONS[0] == "a red circle at the top left" and numbers_of_caption(0) == (0, 0, 0)
    assert CAPTIONS[-1] == "a white triangle at the bottom right" and numbers_of_caption(215) == (7, 2, 8)


def test_every_pair_of_words_is_seen_and_72_triples_are_not():
    seen = [numbers_of_caption(number) for number in range(216) if not UNSEEN[number]]
    assert len(seen) == 144
    for first, second in combinations(range(3), 2):
        sizes = (len(COLORS), len(SHAPES), len(PLACES))
        assert len({(words[first], words[second]) for words in seen}) == sizes[first] * sizes[second]


def test_among_the_unseen_captions_color_and_place_name_the_shape():
    unseen = [numbers_of_caption(number) for number in UNSEEN.nonzero()[:, 0].tolist()]
    assert len({(color, place) for color, _, place in unseen}) == len(unseen) == 72


def test_tokens_are_words_between_marks():
    tokens = caption_tokens(["a red circle at the top left", "a circle"])
    assert tokens.shape == (2, 9)
    assert VOCABULARY.decode(tokens[0]) == ("a", "red", "circle", "at", "the", "top", "left")
    assert tokens[1].tolist()[0] == VOCABULARY.begin and tokens[1].tolist()[3:] == [VOCABULARY.end, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="unknown symbol 'purple'"):
        caption_tokens(["a purple circle"])


def test_a_picture_shows_its_caption():
    """Without noise the shape is where the color is nearest to the caption's."""
    drawn = make_captioned(torch.arange(216), 0, noise=0.0)
    assert drawn.images.shape == (216, 3, 32, 32) and drawn.images.dtype == torch.float32
    grid = (torch.arange(32) + 0.5) / 32
    for image, number in zip(drawn.images, drawn.captions.tolist(), strict=True):
        _, shape, place = numbers_of_caption(number)
        bright = image.amax(0) > 0.5  # (S, S)
        share = bright.sum() / (bright.any(0).sum() * bright.any(1).sum())
        low, high = [(0.65, 0.9), (0.95, 1.0), (0.4, 0.65)][shape]
        assert low <= share <= high, CAPTIONS[number]
        row, column = (float((bright.any(1 - axis) * grid).sum() / bright.any(1 - axis).sum()) for axis in (0, 1))
        assert (int(3 * row), int(3 * column)) == divmod(place, 3), CAPTIONS[number]


def test_colors_are_told_apart_by_the_nearest_one():
    drawn = make_captioned(torch.arange(216), 1)
    nearest = []
    for image, number in zip(drawn.images, drawn.captions.tolist(), strict=True):
        ink = image.flatten(1).mT[image.amax(0).flatten().topk(20).indices].mean(0)  # (3,)
        colors = torch.tensor(list(COLORS.values()))
        nearest.append((ink / ink.max() - colors).square().sum(1).argmin().item() == numbers_of_caption(number)[0])
    assert sum(nearest) > 0.8 * 216


def test_a_picture_depends_on_its_seed_place_and_caption():
    one, more = make_captioned(torch.tensor([5, 7]), 0), make_captioned(torch.tensor([5, 7, 9]), 0)
    assert torch.equal(one.images, more.images[:2])
    assert not torch.equal(make_captioned(torch.tensor([5, 5]), 0).images[0], make_captioned(torch.tensor([7, 5]), 0).images[1])
    assert not torch.equal(one.images, make_captioned(torch.tensor([5, 7]), 1).images)
    assert make_captioned(torch.zeros(0, dtype=torch.int64), 0).images.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("captions, options, message", [
    ([216], {}, "captions must be .* from 0 to 215"),
    ([-1], {}, "captions must be .* from 0 to 215"),
    ([[0]], {}, "captions must be"),
    ([0], {"size": 16}, "size must be at least 32, got 16"),
    ([0], {"size": 33}, "size must be a multiple of 4, got 33"),
    ([0], {"noise": -1.0}, "noise must be at least 0, got -1.0"),
])
def test_refusals(captions, options, message):
    with pytest.raises(ValueError, match=message):
        make_captioned(torch.tensor(captions), 0, **options)
