"""Batches: every example once an epoch, the same batch for the same step, random numbers by seed and step."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from tutorlib.data.batches import LengthBuckets, RandomWindows, ShuffledBatches, numbered_generator, padding_share

NUMBERS = torch.arange(10)


def test_an_epoch_has_each_example_at_most_once_and_pairs_stay_together():
    batches = ShuffledBatches(NUMBERS, -NUMBERS, batch_size=3)
    assert len(batches) == 3
    epoch = [batches(step) for step in range(3)]
    assert all(isinstance(batch, tuple) for batch in epoch)
    assert all(first.shape == (3,) and torch.equal(first, -second) for first, second in epoch)
    assert len(set(torch.cat([first for first, _ in epoch]).tolist())) == 9


def test_whole_batches_only_and_an_epoch_of_all_where_it_divides():
    batches = ShuffledBatches(NUMBERS, batch_size=5)
    assert torch.cat([batches(0)[0], batches(1)[0]]).sort().values.tolist() == NUMBERS.tolist()


def test_epochs_are_shuffled_differently_and_not_in_the_order_given():
    batches = ShuffledBatches(NUMBERS, batch_size=10)
    orders = [batches(step)[0].tolist() for step in range(4)]
    assert len({*map(tuple, orders), tuple(NUMBERS.tolist())}) == 5


def test_a_batch_is_a_function_of_seed_and_step():
    batches, others = ShuffledBatches(NUMBERS, batch_size=4, seed=1), ShuffledBatches(NUMBERS, batch_size=4, seed=1)
    later = batches(7)[0]
    for step in (0, 3, 7):
        assert torch.equal(batches(step)[0], others(step)[0])
    assert torch.equal(later, batches(7)[0])
    assert any(not torch.equal(batches(step)[0], ShuffledBatches(NUMBERS, batch_size=4, seed=2)(step)[0]) for step in range(3))


def test_augmentation_takes_the_whole_batch_and_draws_by_seed_and_step():
    def add_noise(numbers, others, generator):
        return numbers, others, torch.rand(len(numbers), generator=generator)

    batches = ShuffledBatches(NUMBERS, -NUMBERS, batch_size=5, augment=add_noise)
    first, negative, noise = batches(0)
    assert torch.equal(first, -negative) and torch.equal(first, ShuffledBatches(NUMBERS, batch_size=5)(0)[0])
    assert torch.equal(noise, batches(0)[2])
    assert not torch.equal(noise, batches(1)[2])  # of the same epoch
    assert not torch.equal(noise, ShuffledBatches(NUMBERS, -NUMBERS, batch_size=5, augment=add_noise, seed=1)(0)[2])


def test_no_two_seeds_and_no_shuffle_and_augmentation_share_their_random_numbers():
    """Permutations that augmentation draws are none of the epochs' shuffles, and another seed has other shuffles."""
    def permute(numbers, generator):
        return (torch.randperm(len(numbers), generator=generator),)

    drawn = []
    for options in (dict(seed=0), dict(seed=1), dict(seed=2), dict(seed=0, augment=permute), dict(seed=1, augment=permute)):
        batches = ShuffledBatches(torch.arange(20), batch_size=20, **options)
        drawn += [tuple(batches(step)[0].tolist()) for step in range(8)]
    assert len(set(drawn)) == 5 * 8


def test_the_seed_is_0_and_a_batch_has_64_examples_unless_told_otherwise():
    examples = torch.arange(200)
    assert torch.equal(ShuffledBatches(examples)(1)[0], ShuffledBatches(examples, batch_size=64, seed=0)(1)[0])


@pytest.mark.parametrize("own", ["cpu", "meta"])  # meta: a device that every machine has; it knows shapes only
def test_batches_lie_on_the_device(device, own):
    assert ShuffledBatches(NUMBERS, batch_size=2, device=device)(0)[0].device.type == device.type
    assert ShuffledBatches(NUMBERS.to(own), batch_size=2, device="meta")(0)[0].device.type == "meta"


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_larger_than_the_set_or_empty_is_refused(size):
    with pytest.raises(ValueError, match=f"batch_size must be from 1 to the 10 examples, got {size}"):
        ShuffledBatches(NUMBERS, batch_size=size)


@pytest.mark.parametrize("tensors", [(), (NUMBERS, NUMBERS[:9])])
def test_tensors_that_disagree_are_refused(tensors):
    with pytest.raises(ValueError, match="tensors must share the size of their first dimension, got"):
        ShuffledBatches(*tensors, batch_size=1)


def test_windows_are_rows_of_the_text_with_the_next_token_as_target():
    batches = RandomWindows(NUMBERS, 4, batch_size=200, seed=3)
    inputs, targets = batches(7)
    assert inputs.shape == targets.shape == (200, 4) and torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(4))
    assert set(inputs[:, 0].tolist()) == set(range(6))  # every place from which 4 tokens and the next one can be read
    assert torch.equal(batches(7)[0], inputs) and not torch.equal(batches(8)[0], inputs)
    assert not torch.equal(RandomWindows(NUMBERS, 4, batch_size=200, seed=4)(7)[0], inputs)


def test_no_two_seeds_and_steps_share_their_windows_or_buckets():
    windows = [tuple(RandomWindows(torch.arange(1000), 4, seed=seed)(step)[0][:, 0].tolist()) for seed in range(4)
               for step in range(4)]
    assert len(set(windows)) == 16
    samplers = [LengthBuckets(LENGTHS, 64, seed=seed) for seed in range(3)]
    assert len({str(list(sampler)) for sampler in samplers for _ in range(3)}) == 9


def test_windows_lie_on_the_device(device):
    assert {part.device.type for part in RandomWindows(NUMBERS, 4, device=device)(0)} == {device.type}
    assert {part.device.type for part in RandomWindows(NUMBERS, 4, device="meta")(0)} == {"meta"}


def test_windows_longer_than_the_text_are_refused():
    RandomWindows(NUMBERS, 9, batch_size=1)
    for length in (0, 10):
        with pytest.raises(ValueError, match=f"N more than length={length}, got .10,."):
            RandomWindows(NUMBERS, length)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        RandomWindows(NUMBERS, 4, batch_size=0)


LENGTHS = torch.randint(1, 60, (1000,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pool", [1, 4, 100])
def test_buckets_hold_every_example_once_an_epoch(pool):
    buckets = LengthBuckets(LENGTHS.tolist(), 64, pool=pool)
    batches = list(buckets)
    assert len(batches) == len(buckets) == 16
    assert sorted(map(len, batches)) == [40] + [64] * 15  # 1000 is 15 times 64 and 40
    assert sorted(place for batch in batches for place in batch) == list(range(1000))


def test_buckets_pad_less_the_larger_the_pool_and_a_pool_of_one_is_a_plain_shuffle():
    shares = [padding_share(LENGTHS, LengthBuckets(LENGTHS, 64, pool=pool)) for pool in (1, 4, 100)]
    assert shares[0] > 0.45 and 0.05 < shares[1] < 0.25 and shares[2] < 0.1
    assert padding_share(LENGTHS, LengthBuckets(LENGTHS, 1)) == 0
    assert list(LengthBuckets(LENGTHS, 5)) == list(LengthBuckets(LENGTHS, 5, pool=100, seed=0))


def test_all_in_one_pool_share_no_length_between_batches_except_at_the_cuts_and_come_in_no_order():
    batches = list(LengthBuckets(LENGTHS, 100, pool=10))
    spans = [(LENGTHS[batch].min().item(), LENGTHS[batch].max().item()) for batch in batches]
    assert all(before[1] <= after[0] for before, after in zip(sorted(spans), sorted(spans)[1:]))
    assert spans != sorted(spans)


def test_padding_share_by_hand():
    assert padding_share([2, 4, 3], [[0, 1], [2]]) == pytest.approx(1 - 9 / 11)  # two rows of 4 and one of 3 hold 9 tokens


def test_buckets_depend_on_seed_and_epoch_and_can_be_resumed():
    buckets = LengthBuckets(LENGTHS, 64, seed=1)
    first, second = list(buckets), list(buckets)
    assert first != second and list(LengthBuckets(LENGTHS, 64, seed=1)) == first
    assert list(LengthBuckets(LENGTHS, 64, seed=2)) != first
    resumed = LengthBuckets(LENGTHS, 64, seed=1)
    resumed.epoch = 1
    assert list(resumed) == second


def test_buckets_drive_a_data_loader():
    loader = DataLoader(LENGTHS, batch_sampler=LengthBuckets(LENGTHS, 64, pool=4))
    assert torch.cat(list(loader)).sort().values.equal(LENGTHS.sort().values)


@pytest.mark.parametrize("arguments, message", [
    (([],), "lengths must have the shape .N,., N at least 1, got .0,."),
    (([[1, 2]],), "lengths must have the shape .N,."),
    (([1, 2], 0), "batch_size must be at least 1, got 0"),
])
def test_buckets_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        LengthBuckets(*arguments)


def test_a_pool_of_none_is_refused():
    with pytest.raises(ValueError, match="pool must be at least 1, got 0"):
        LengthBuckets([1, 2], pool=0)


def drawn(generator):
    return torch.rand(4, generator=generator).tolist()


@pytest.mark.parametrize("seed", [0, 1, 77, 2**32 + 1, -5])
def test_the_numbers_of_a_seed_and_step_stay_what_they_are(seed):
    """The chapters' outputs stand on these two formulas."""
    for number in (0, 1, 12_345):
        assert drawn(numbered_generator(seed, number)) == drawn(torch.Generator().manual_seed(seed * 1_000_003 + number))
    batches = ShuffledBatches(NUMBERS, batch_size=5, seed=seed,
                              augment=lambda batch, generator: (batch, torch.rand(4, generator=generator)))
    rows, noise = batches(7)  # the second batch of epoch 3
    order = torch.randperm(10, generator=torch.Generator().manual_seed((seed * 1_000_003 + 3) * 2))
    assert torch.equal(rows, order[5:])
    assert noise.tolist() == drawn(torch.Generator().manual_seed((seed * 1_000_003 + 7) * 2 + 1))


def test_a_huge_seed_is_a_seed():
    for make in (lambda seed: ShuffledBatches(NUMBERS, batch_size=10, seed=seed)(3)[0],
                 lambda seed: RandomWindows(NUMBERS, 2, seed=seed)(3)[0],
                 lambda seed: torch.tensor(list(LengthBuckets(LENGTHS, 100, seed=seed)))):
        assert torch.equal(make(10**15), make(10**15)) and not torch.equal(make(10**15), make(10**15 + 1))
        assert torch.equal(make(10**15), make(10**15 % 2**32))  # 32 bits count


@pytest.mark.parametrize("make", [
    lambda seed: numbered_generator(seed, 0), lambda seed: ShuffledBatches(NUMBERS, batch_size=1, seed=seed),
    lambda seed: RandomWindows(NUMBERS, 2, seed=seed), lambda seed: LengthBuckets([1], seed=seed)])
@pytest.mark.parametrize("seed", [0.5, math.nan, None, "1"])
def test_what_is_no_seed_is_refused_at_once(make, seed):
    with pytest.raises(ValueError, match=f"seed must be an integer and steps or epochs count from 0, got seed {seed}"):
        make(seed)


@pytest.mark.parametrize("step", [-1, 0.5])
def test_steps_count_from_0(step):
    batches = ShuffledBatches(NUMBERS, batch_size=10)
    with pytest.raises(ValueError, match=f"step must be a whole number, counted from 0, got {step}"):
        batches(step)
    with pytest.raises(ValueError, match=f"count from 0, got seed 0 and number {step}"):
        RandomWindows(NUMBERS, 2)(step)


def test_what_is_no_batch_is_refused():
    with pytest.raises(ValueError, match=r"augment must return a tuple of tensors, got a tensor of shape \(2,\)"):
        ShuffledBatches(NUMBERS, batch_size=2, augment=lambda numbers, generator: numbers)(0)
    with pytest.raises(ValueError, match="tensors must share the size of their first dimension, got .None."):
        ShuffledBatches(torch.tensor(1.0), batch_size=1)
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 10 examples, got 2.5"):
        ShuffledBatches(NUMBERS, batch_size=2.5)
    with pytest.raises(ValueError, match="tokens must be integers, got torch.float32"):
        RandomWindows(NUMBERS.float(), 2)
    for name in ("length", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got 2.5"):
            RandomWindows(NUMBERS, **({"length": 2} | {name: 2.5}))


@pytest.mark.parametrize("lengths, batches, message", [
    ([1, 2], [], "batches must hold at least one place, got none"),
    ([0, 0], [[0, 1]], "batches must hold at least one place, got none"),
    ([1, 2], [[]], "batches must be lists of examples from 0 to 1, got []"),
    ([1, 2], [[0, -1]], "batches must be lists of examples from 0 to 1, got [0, -1]"),
    ([1, 2], [[2]], "batches must be lists of examples from 0 to 1, got [2]"),
    ([1.5, 2.0], [[0]], "lengths must be whole numbers of at least 0, got torch.float32 from 1.5"),
    ([1, -2], [[0]], "lengths must be whole numbers of at least 0, got torch.int64 from -2"),
    ([], [], "lengths must have the shape (N,), N at least 1, got (0,)"),
])
def test_a_share_of_nothing_is_refused(lengths, batches, message):
    with pytest.raises(ValueError) as refused:
        padding_share(lengths, batches)
    assert message in str(refused.value)
