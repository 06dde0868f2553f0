"""Federated averaging between real processes: the same bits as in one process, and a client that exits is survived."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutorlib.training import federated_processes
from tutorlib.training.federated_processes import serve, take_part

TOOL = Path(__file__).parents[2] / "experiments" / "federate_processes.py"
MESSAGE = 4 * (196 * 64 + 64 + 64 * 10 + 10)


def run(*options):
    done = subprocess.run([sys.executable, str(TOOL), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_processes_give_what_one_process_gives():
    found = run("--clients", "3", "--rounds", "2")
    assert found["answered"] == [[0, 1, 2]] * 2 and found["bytes"] == [6 * MESSAGE] * 2
    assert found["largest difference"] < 1e-6 and found["right"] > 0.2


@pytest.mark.slow
def test_a_client_that_exits_is_survived():
    found = run("--clients", "3", "--rounds", "3", "--lose", "1:1")
    assert found["answered"] == [[0, 1, 2], [0, 2], [0, 2]]
    assert found["bytes"] == [6 * MESSAGE, 5 * MESSAGE, 4 * MESSAGE]  # in its last round it was still sent the weights
    assert found["largest difference"] < 1e-6


class Wires:
    """In the place of torch.distributed: clients that add their number, and break where they are told to."""

    def __init__(self, clients, breaks=()):
        self.clients, self.breaks, self.turn, self.sent = clients, set(breaks), {}, {}

    def get_world_size(self):
        return self.clients + 1

    def send(self, message, rank):
        self.turn[rank] = self.turn.get(rank, -1) + 1
        if (rank - 1, self.turn[rank], "send") in self.breaks:
            raise RuntimeError("Connection closed by peer")
        self.sent[rank] = message + rank

    def recv(self, message, rank):
        if (rank - 1, self.turn[rank], "recv") in self.breaks:
            raise RuntimeError("Connection closed by peer")
        message.copy_(self.sent[rank])


def test_the_server_averages_what_comes_back(monkeypatch):
    monkeypatch.setattr(federated_processes, "dist", Wires(2))
    found = serve(torch.zeros(3), [3, 1], 2)
    assert found.weights.tolist() == [2.5] * 3  # twice (3 * 1 + 1 * 2) / 4
    assert found.answered == [[0, 1], [0, 1]] and found.bytes == [48, 48]


@pytest.mark.parametrize("where, messages", [("send", 2), ("recv", 3)])
def test_the_server_goes_on_without_one(monkeypatch, where, messages):
    monkeypatch.setattr(federated_processes, "dist", Wires(2, [(1, 1, where)]))
    found = serve(torch.zeros(3), [1, 1], 3)
    assert found.answered == [[0, 1], [0], [0]]
    assert found.bytes == [48, 12 * messages, 24]


def test_with_nobody_left_it_says_so(monkeypatch):
    monkeypatch.setattr(federated_processes, "dist", Wires(1, [(0, 1, "recv")]))
    with pytest.raises(ConnectionError, match="no client is left in round 1"):
        serve(torch.zeros(3), [1], 3)


def test_the_sizes_must_be_those_of_the_clients(monkeypatch):
    monkeypatch.setattr(federated_processes, "dist", Wires(2))
    with pytest.raises(ValueError, match="sizes must be those of the 2 clients, got 3"):
        serve(torch.zeros(3), [1, 1, 1], 1)


def test_a_client_answers_each_round_with_what_it_learned(monkeypatch):
    class Server:
        def __init__(self):
            self.answers = []

        def recv(self, message, rank):
            message.fill_(float(len(self.answers)))

        def send(self, message, rank):
            self.answers.append(message.clone())

    server = Server()
    monkeypatch.setattr(federated_processes, "dist", server)
    take_part(torch.zeros(2), 3, lambda weights, turn: weights + 10 * turn)
    assert [answer.tolist() for answer in server.answers] == [[0.0, 0.0], [11.0, 11.0], [22.0, 22.0]]
