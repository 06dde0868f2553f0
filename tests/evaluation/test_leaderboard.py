"""The leaderboard: which rows it scores, what repeated submission gains on it and on the Ladder, and its files."""

import math
from statistics import NormalDist

import pytest
import torch

from tutorlib.evaluation.leaderboard import Ladder, Leaderboard, read_submission, write_submission


def boosted(board, votes):
    """The majority of the random submissions that were told to be above one half, or to move the Ladder."""
    scores = torch.tensor([board.submit(vote) for vote in votes])
    if isinstance(board, Ladder):
        scores = scores.diff(prepend=torch.tensor([0.5])) + 0.5
    kept = votes[scores > 0.5]
    return (kept.double().mean(0) > 0.5).long()


def test_public_and_private_rows_are_all_rows_once():
    labels = torch.arange(10) % 2
    board = Leaderboard(labels, 4, torch.Generator().manual_seed(0))
    counts = torch.zeros(2)
    for row in range(10):
        wrong = 1 - labels
        wrong[row] = labels[row]
        counts += torch.tensor([board.submit(wrong) * 4, board.private_score(wrong) * 6])
    assert counts.round().tolist() == [4, 6] and board.submissions == 10
    other = Leaderboard(labels, 4, torch.Generator().manual_seed(3))
    assert not torch.equal(board._public.sort().values, other._public.sort().values)


def test_random_submissions_climb_by_the_formula_and_win_nothing():
    generator = torch.Generator().manual_seed(0)
    n, k, public, private = 1000, 200, [], []
    for _ in range(6):
        board = Leaderboard(torch.randint(2, (3 * n,), generator=generator), n, generator)
        final = boosted(board, torch.randint(2, (k, 3 * n), generator=generator))
        public.append(board.submit(final))
        private.append(board.private_score(final))
    predicted = NormalDist().cdf(math.sqrt(k / (math.pi * n)))  # .599
    assert sum(public) / 6 == pytest.approx(predicted, abs=0.025)  # 4 standard errors
    assert sum(private) / 6 == pytest.approx(0.5, abs=0.02)


def test_the_ladder_gives_little_away():
    generator = torch.Generator().manual_seed(0)
    n, k, public = 1000, 200, []
    for _ in range(6):
        board = Ladder(torch.randint(2, (3 * n,), generator=generator), n, generator)
        final = boosted(board, torch.randint(2, (k, 3 * n), generator=generator))
        public.append(board._right(final, board._public).mean().item())
    assert sum(public) / 6 < 0.55


def test_the_ladder_moves_for_what_exceeds_its_error():
    labels = torch.ones(101, dtype=torch.long)
    board = Ladder(labels, 100, torch.Generator().manual_seed(0))

    def with_right(number, first=0):
        predictions = torch.zeros_like(labels)
        predictions[board._public[first:first + number]] = 1
        return predictions

    assert board.submit(with_right(50)) == 0.5
    assert board.submit(with_right(51, first=2)) == 0.5  # better by .01, 3 won and 2 lost, the error is .022: not moved
    assert board.submit(with_right(40)) == 0.5  # worse: never
    assert board.submit(with_right(53)) == pytest.approx(0.53)  # .03 over .017
    assert board.submit(with_right(50)) == pytest.approx(0.53)


def test_a_submission_comes_back_in_the_order_of_the_ids(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, ["b", "a", "c"], torch.tensor([1, 0, 7]))
    assert path.read_text().splitlines() == ["Id,Label", "b,1", "a,0", "c,7"]
    assert read_submission(path, ["a", "b", "c"]).tolist() == [0, 1, 7]


@pytest.mark.parametrize("text, message", [
    ("", "the header must be Id,Label, got ''"),
    ("Id,Class\na,1\n", "got 'Id,Class'"),
    ("Id,Label\na,1\na,2\n", "line 3 must be an id that is new"),
    ("Id,Label\na,one\nb,1\n", "line 2 must be an id that is new and a whole number, got 'a,one'"),
    ("Id,Label\na,1\n", "'b' is missing"),
    ("Id,Label\na,1\nb,1\nz,1\n", "'z' is unknown"),
])
def test_refuses_other_files(tmp_path, text, message):
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_submission(path, ["a", "b"])
    assert message in str(error.value)


@pytest.mark.parametrize("call, message", [
    (lambda: Leaderboard(torch.rand(5), 2), "labels must be whole numbers (N,), got torch.float32"),
    (lambda: Leaderboard(torch.ones(5, dtype=torch.long), 5), "public_rows must leave a private row, at most 4, got 5"),
    (lambda: Leaderboard(torch.ones(5, dtype=torch.long), 0), "public_rows must be at least 1, got 0"),
    (lambda: Leaderboard(torch.ones(5, dtype=torch.long), 2).submit(torch.ones(4)),
     "predictions must be (5,), one a row, got (4,)"),
    (lambda: write_submission("never.csv", ["a"], [1, 2]), "ids and predictions must be equally many, got 1 and 2"),
])
def test_refusals(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
