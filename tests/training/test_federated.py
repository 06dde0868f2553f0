"""Federated averaging: one client is plain SGD, the average is weighted, bytes are counted, the absent change nothing else."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector

from tests.closeness import assert_same, draw
from tutorlib.models import MLP
from tutorlib.training.federated import Client, average, deal, federate, local_update, message_bytes, shuffler


def model(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return MLP((6, 5, 3)).to(dtype)


def clients(*sizes, dtype=torch.float64):
    """Clients of so many examples each."""
    return [Client(draw(size, 6, dtype=dtype, seed=size), torch.arange(size) % 3) for size in sizes]


def weights_of(network):
    return parameters_to_vector(network.parameters()).detach().clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_client_is_plain_sgd(dtype):
    own, (client,) = model(dtype=dtype), clients(23, dtype=dtype)
    peer = model(dtype=dtype)
    found = federate(own, [client], rounds=4, rate=0.3, epochs=2, batch_size=5, seed=7)
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.3)
    for turn in range(4):
        dice = shuffler(7, turn, 0)
        for _ in range(2):
            for rows in torch.randperm(23, generator=dice).split(5):
                optimizer.zero_grad()
                F.cross_entropy(peer(client.inputs[rows]), client.targets[rows]).backward()
                optimizer.step()
    assert_same(found.weights, weights_of(peer))
    assert_same(weights_of(own), found.weights)
    assert found.weights.dtype == dtype


def test_one_step_of_all_on_all_they_have_is_a_step_on_the_whole():
    parts, own, whole = clients(4, 9, 2), model(), model()
    federate(own, parts, rounds=1, rate=0.5, epochs=1, batch_size=None)
    together = Client(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))
    federate(whole, [together], rounds=1, rate=0.5, epochs=1, batch_size=None)
    assert_same(weights_of(own), weights_of(whole))


def test_the_average_counts_examples():
    updates = [torch.tensor([0.0, 4.0]), torch.tensor([8.0, 0.0])]
    assert average(updates, [3, 1]).tolist() == [2.0, 3.0]


def test_a_large_pull_keeps_the_weights():
    (client,), start = clients(12), weights_of(model())
    free, pulled = (local_update(model(), start, client, rate=0.1, epochs=20, batch_size=4, proximal=proximal,
                                 generator=shuffler(0, 0, 0)) for proximal in (0.0, 5.0))
    assert (pulled - start).norm() < 0.3 * (free - start).norm()


def test_the_pull_is_the_gradient_of_its_penalty():
    (client,), start, strength = clients(8), weights_of(model()), 0.7
    options = dict(rate=1.0, batch_size=None, generator=shuffler(0, 0, 0))
    first = local_update(model(), start, client, epochs=1, **options)  # here the pull is still zero
    plain, pulled = (local_update(model(), start, client, epochs=2, proximal=proximal, **options)
                     for proximal in (0.0, strength))
    assert_same(plain - pulled, strength * (first - start))


def test_bytes_are_those_of_all_messages():
    found = federate(model(dtype=torch.float32), clients(3, 4, 5, dtype=torch.float32), rounds=3, rate=0.1,
                     present=lambda turn: [0, 2] if turn == 1 else [0, 1, 2])
    size = 4 * (6 * 5 + 5 + 5 * 3 + 3)
    assert message_bytes(found.weights) == size
    assert found.bytes == [6 * size, 4 * size, 6 * size]


def test_a_client_that_is_away_leaves_the_average_of_the_others():
    three, own, peer = clients(3, 4, 5), model(), model()
    federate(own, three, rounds=1, rate=0.4, present=lambda turn: [0, 2])
    start = weights_of(model())
    updates = [local_update(peer, start, three[c], rate=0.4, epochs=1, batch_size=32, generator=shuffler(0, 0, c))
               for c in (0, 2)]
    assert_same(weights_of(own), average(updates, [3, 5]))


def test_where_nobody_is_there_nothing_changes():
    own, start = model(), weights_of(model())
    found = federate(own, clients(3, 4), rounds=2, rate=0.4, present=lambda turn: [], score=lambda network: 1.0)
    assert torch.equal(found.weights, start) and found.bytes == [0, 0] and found.scores == [1.0, 1.0]


def test_every_client_and_round_shuffles_in_its_own_way():
    orders = {tuple(torch.randperm(20, generator=shuffler(0, turn, number)).tolist())
              for turn in range(3) for number in range(4)}
    assert len(orders) == 12


@pytest.mark.parametrize("each", [None, 1, 2, 5])
def test_deal_gives_every_row_to_one_client(each):
    labels = torch.arange(200) % 10
    dealt = deal(labels, 10, each, torch.Generator().manual_seed(3))
    assert torch.cat(dealt).sort().values.tolist() == list(range(200))
    kinds = [len(labels[rows].unique()) for rows in dealt]
    assert min(kinds) > 5 if each is None else max(kinds) <= each


def test_dealing_to_other_seeds_is_another_deal():
    labels = torch.arange(200) % 10
    first, again, other = (deal(labels, 10, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])


def test_it_learns_what_its_clients_know_together():
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    inputs = 3 * F.one_hot(labels, 6) + 0.3 * torch.randn(90, 6)
    alone = [Client(inputs[labels == kind], labels[labels == kind]) for kind in range(3)]  # one kind each
    own = model(dtype=torch.float32)
    federate(own, alone, rounds=40, rate=0.3)
    assert (own(inputs).argmax(-1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("change, message", [
    (dict(rounds=0), "rounds must be at least 1, got 0"),
    (dict(epochs=0), "epochs must be at least 1, got 0"),
    (dict(batch_size=2.5), "batch_size must be a whole number, got 2.5"),
    (dict(rate=0.0), "rate must be positive, got 0.0"),
    (dict(proximal=-1.0), "proximal must be at least 0, got -1.0"),
    (dict(present=lambda turn: [2]), "present must give numbers of the 2 clients, got [2] in round 0"),
])
def test_refuses(change, message):
    with pytest.raises(ValueError, match="^" + message.replace("[", "\\[").replace("]", "\\]")):
        federate(model(), clients(3, 4), **(dict(rounds=1, rate=0.1) | change))


def test_refuses_clients_that_are_none():
    with pytest.raises(ValueError, match="clients must be at least one, got none"):
        federate(model(), [], rounds=1, rate=0.1)
    with pytest.raises(ValueError, match=r"clients\[1\] must have as many inputs as targets and at least one, got 3 and 2"):
        federate(model(), [*clients(3), Client(torch.zeros(3, 6), torch.zeros(2).long())], rounds=1, rate=0.1)


def test_refuses_a_model_with_buffers():
    with pytest.raises(ValueError, match="model must have no buffers.*BatchNorm1d"):
        federate(nn.BatchNorm1d(6), clients(3), rounds=1, rate=0.1)


def test_refuses_more_shards_than_rows():
    with pytest.raises(ValueError, match="clients times each must be at most the 5 rows, got 3 times 2"):
        deal(torch.zeros(5).long(), 3, 2, torch.Generator())


@pytest.mark.parametrize("updates, sizes, message", [
    ([], [], "updates and sizes must be equally many and at least one, got 0 and 0"),
    ([torch.zeros(2)], [1, 2], "updates and sizes must be equally many and at least one, got 1 and 2"),
    ([torch.zeros(2)], [0], "sizes must be at least 1, got 0"),
])
def test_average_refuses(updates, sizes, message):
    with pytest.raises(ValueError, match=message):
        average(updates, sizes)
