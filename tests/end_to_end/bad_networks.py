"""Real nodes on bad networks, with clients who write down what they are told.

    python tests/end_to_end/bad_networks.py --nodes 5 --seconds 600 --seed 3

as root: faults of FAULTS one after the other, in an order drawn from the seed, each until everybody
whom it leaves in a quorum has had entries acknowledged. Then all is healed, and must be well.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crowd import Crowd
from network import Network, has_reached, new_identity, same_ledger
from wires import Wires

TRIES = 100  # a busy machine lets a leader miss its time
FAULT_SECONDS = 1.2  # longer than a leader's time, so that views end without one


@dataclass
class Trouble:
    """A network whose nodes are joined by wires, and the chance that picks victims."""

    network: Network
    wires: Wires
    chance: random.Random
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def nodes(self) -> list[int]:
        return list(range(len(self.network.sites)))

    def drawn(self) -> list[int]:
        """The nodes, in any order."""
        return self.chance.sample(self.nodes, len(self.nodes))

    def without(self, *away: int) -> list[int]:
        return [node for node in self.nodes if node not in away]

    def signal(self, node: int, number: signal.Signals) -> None:
        process = self.network.sites[node].process
        assert process is not None
        process.send_signal(number)


Fault = Callable[[Trouble], Iterator[Sequence[int]]]  # yields the nodes that must go on


def minority_apart(it: Trouble) -> Iterator[Sequence[int]]:
    """As many as can be missed are cut off together, and talk to each other only."""
    drawn = it.drawn()
    q = len(drawn) // 2 + 1
    it.wires.part(drawn[:q], drawn[q:])
    yield drawn[:q]


def nobody_hears_one(it: Trouble) -> Iterator[Sequence[int]]:
    """What one node says reaches nobody; it hears all."""
    mute = it.chance.choice(it.nodes)
    for other in it.without(mute):
        it.wires.cut(mute, other)
    yield it.without(mute)


def one_hears_nobody(it: Trouble) -> Iterator[Sequence[int]]:
    """One node hears nothing; what it says reaches all."""
    deaf = it.chance.choice(it.nodes)
    for other in it.without(deaf):
        it.wires.cut(other, deaf)
    yield it.without(deaf)


def one_way(it: Trouble) -> Iterator[Sequence[int]]:
    """Nothing passes from one node to one other."""
    sender, receiver, *_ = it.drawn()
    it.wires.cut(sender, receiver)
    yield it.nodes


def two_cannot_talk(it: Trouble) -> Iterator[Sequence[int]]:
    """Two nodes do not reach each other, and both reach all others: Cloudflare, November 2020."""
    one, other, *_ = it.drawn()
    it.wires.part([one], [other])
    yield it.nodes


def only_through_one(it: Trouble) -> Iterator[Sequence[int]]:
    """One node reaches all; the others reach only as many as a quorum needs through it."""
    middle, *others = it.drawn()
    q = len(it.nodes) // 2 + 1
    half = len(others) // 2
    sides = others[:half], others[half:]
    it.wires.part(*sides)
    # Of 3, 5 and 7 nodes each side is a quorum with the middle; of 4 the larger one is.
    yield [
        middle,
        *(n for part in (others[:half], others[half:]) if len(part) + 1 >= q for n in part),
    ]


def wide_area(it: Trouble) -> Iterator[Sequence[int]]:
    """40 ms each way between all."""
    it.wires.delay(40)
    yield it.nodes


def loss(it: Trouble) -> Iterator[Sequence[int]]:
    """Every twentieth frame is lost."""
    it.wires.lose(0.05)
    yield it.nodes


def stopped(it: Trouble) -> Iterator[Sequence[int]]:
    """A node stands still (SIGSTOP), its connections open, and goes on later."""
    still = it.chance.choice(it.nodes)
    it.signal(still, signal.SIGSTOP)
    yield it.without(still)
    it.signal(still, signal.SIGCONT)


def killed(it: Trouble) -> Iterator[Sequence[int]]:
    """A node dies, and is started again."""
    dead = it.chance.choice(it.nodes)
    it.network.kill(dead)
    yield it.without(dead)
    it.network.start(dead)


def killed_beside_a_cut(it: Trouble) -> Iterator[Sequence[int]]:
    """A node dies while two others do not hear each other; when it is back it joins them."""
    dead, one, other, *_ = it.drawn()
    it.wires.part([one], [other])
    it.network.kill(dead)
    it.network.start(dead)
    yield it.nodes


FAULTS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        *(minority_apart, nobody_hears_one, one_hears_nobody, one_way, two_cannot_talk),
        *(only_through_one, wide_area, loss, stopped, killed, killed_beside_a_cut),
    )
}


@contextmanager
def troubled(folder: Path, nodes: int, seed: int) -> Iterator[Trouble]:
    """A running network on wires."""
    with Wires(nodes, seed) as wires, Network(folder, nodes, wires=wires) as network:
        network.start()
        yield Trouble(network, wires, random.Random(seed))


def suffer(it: Trouble, crowd: Crowd, name: str) -> None:
    """One fault, from its begin to its end and the time in which all go on again."""
    it.seen[name] += 1
    for going_on in FAULTS[name](it):
        crowd.wait(going_on, seconds=FAULT_SECONDS)
    it.wires.heal()
    crowd.wait(it.nodes, acknowledged=1)


def lost_views(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Views that ended without a block between two statuses of a node."""
    return int(after["view"] - before["view"] - (after["height"] - before["height"]))


def is_well(it: Trouble) -> dict[str, Any]:
    """After healing: one ledger, clean at every node, few views lost, and then silence."""
    network = it.network
    for node in it.nodes:
        receipt = network.submit(node, [new_identity()[1]])
    clients = [network.transport(node) for node in it.nodes]
    after = [has_reached(client, receipt.size) for client in clients]
    for _ in range(TRIES):
        before = after
        for node in it.nodes:
            receipt = network.submit(node, [new_identity()[1]])
        after = [has_reached(client, receipt.size) for client in clients]
        lost = max(lost_views(*both) for both in zip(before, after, strict=True))
        if lost <= len(it.nodes) + 3:
            break
    assert lost <= len(it.nodes) + 3, "views are lost although nothing is wrong any more"
    for status in after:
        assert (status["alarm"], status["evidence_count"]) == ("", 0)
    same_ledger(network, it.nodes)
    network.close_clients()
    it.wires.fall_silent()
    return after[0]


def main() -> None:
    """Faults for as long as is asked, then a report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        troubled(Path(folder), said.nodes, said.seed) as it,
    ):
        end = time.monotonic() + said.seconds
        crowd = Crowd(it.network, [*it.nodes, *it.nodes], said.seed)
        with crowd:
            while time.monotonic() < end:
                for name in it.chance.sample(sorted(FAULTS), len(FAULTS)):
                    begun = time.monotonic()
                    suffer(it, crowd, name)
                    took = time.monotonic() - begun
                    print(f"{name}: {took:.1f} s", file=sys.stderr, flush=True)
        history = crowd.check()
        status = is_well(it)
    answered = Counter(call.kind.value for call in history if call.ended is not None)
    facts = {"nodes": said.nodes, "seed": said.seed, "faults": it.seen.total()}
    views = {"entries": status["size"], "blocks": status["height"], "views": status["view"]}
    print(json.dumps({**facts, "answered": answered, **views, "linearizable": True}))


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()
