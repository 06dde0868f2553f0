"""Federated averaging between real processes, a server and its clients, and the same in one process beside it.

    OMP_NUM_THREADS=1 python experiments/federate_processes.py --clients 4 --rounds 3 --lose 2:1

Every client is a process of its own that is given its own digits and no others; weights travel through torch.distributed
(gloo). `--lose 2:1` lets client 2 exit in round 1, after it was sent the weights and before it answers. Printed as JSON: who
answered in each round, the bytes, the share of test digits right, and the largest difference to `federate` in one process.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tutorlib.data.digits import load_digits, pooled
from tutorlib.evaluation.classification import accuracy
from tutorlib.models import MLP
from tutorlib.training.federated import Client, deal, federate, local_update, shuffler
from tutorlib.training.federated_processes import serve, take_part

SIZES, EACH, SEED = (196, 64, 10), 2, 0
TRAINING = dict(rate=0.1, epochs=1, batch_size=32)
PATIENCE = datetime.timedelta(seconds=60)  # a client that says nothing for so long is gone too


def new_model() -> MLP:
    torch.manual_seed(SEED)
    return MLP(SIZES)


def join(folder: str, rank: int, size: int) -> None:
    """Become one of `size` processes, which meet in a file."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size, timeout=PATIENCE)


def run_client(folder: str, number: int, size: int, client: Client, rounds: int, lost: int | None) -> None:
    torch.set_num_threads(1)
    model = new_model()
    start = parameters_to_vector(model.parameters()).detach()

    def train(weights: Tensor, turn: int) -> Tensor:
        if turn == lost:
            os._exit(1)
        return local_update(model, weights, client, **TRAINING, generator=shuffler(SEED, turn, number))

    join(folder, number + 1, size)
    take_part(start, rounds, train)
    dist.destroy_process_group()


def run_server(folder: str, sizes: list[int], rounds: int) -> None:
    torch.set_num_threads(1)
    join(folder, 0, len(sizes) + 1)
    found = serve(parameters_to_vector(new_model().parameters()).detach(), sizes, rounds)
    torch.save(found._asdict(), Path(folder) / "served.pt")
    dist.destroy_process_group()


def federation(clients: int) -> tuple[list[Client], Client]:
    """Each client's digits, two kinds each, and the test digits."""
    train, test = (Client(pooled(part.images), part.labels) for part in load_digits())
    owned = deal(train.targets, clients, EACH, torch.Generator().manual_seed(SEED))
    return [Client(train.inputs[rows], train.targets[rows]) for rows in owned], test


def between_processes(clients: list[Client], rounds: int, lose: tuple[int, int] | None) -> dict:
    """What `serve` found, every party in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        context, size = mp.get_context("spawn"), len(clients) + 1
        parties = [context.Process(target=run_server, args=(folder, [len(each.targets) for each in clients], rounds))]
        parties += [context.Process(target=run_client, args=(folder, number, size, each, rounds,
                                                             lose[1] if lose and lose[0] == number else None))
                    for number, each in enumerate(clients)]
        for party in parties:
            party.start()
        for party in parties:
            party.join()
        if parties[0].exitcode:
            raise RuntimeError(f"the server ended with code {parties[0].exitcode}")
        return torch.load(Path(folder) / "served.pt", weights_only=True)


def run(count: int, rounds: int, lose: tuple[int, int] | None) -> dict:
    clients, test = federation(count)
    served = between_processes(clients, rounds, lose)
    model = new_model()
    alone = federate(model, clients, rounds=rounds, **TRAINING, seed=SEED, present=lambda turn: served["answered"][turn])
    vector_to_parameters(served["weights"], model.parameters())
    return {"answered": served["answered"], "bytes": served["bytes"], "right": round(accuracy(model, *test), 3),
            "largest difference": (served["weights"] - alone.weights).abs().max().item()}


def client_and_round(text: str) -> tuple[int, int]:
    client, turn = text.split(":")
    return int(client), int(turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lose", type=client_and_round, metavar="CLIENT:ROUND", help="the client that exits, and when")
    options = parser.parse_args()
    print(json.dumps(run(options.clients, options.rounds, options.lose)))


if __name__ == "__main__":
    main()
