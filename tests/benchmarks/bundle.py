"""A leaderboard row's proof in a ledger of a million entries: made, verified, and how large.

The row is real: three hospitals trained, mixed and tested a model under all rules. Around it stand
a million more leaves in a real store; the head that holds them is cosigned by all three members,
with ML-DSA-44 too. `made` is what a node does for one request, storage included; `verified` is the
independent verifier, genesis file included. Medians of many; building takes about a minute and
400 MB below the system's folder for temporary files.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from tilth import verifier
from tilth_ledger.blocks import FINALIZE, Block, Certificate, Header, Justification, Vote
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import CosignKeys, Head, sign, sign_mldsa
from tilth_ledger.epochs import Epoch, signers_of
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import Frontier, leaf_hash
from tilth_node.clock import Clock
from tilth_node.cosigning import Cosigning
from tilth_node.proving import Prover
from tilth_node.storage.cosignatures import CosignatureStore
from tilth_node.storage.ledger_store import LedgerStore

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))
from rules_world import Digits, World, named_key, named_mldsa

LEAVES = 1_000_000
BLOCK = 4_096
TIMES = 41
FILLER = b"\x01\x00\x01" + bytes(150)


class Busy(World):
    """A world whose keys and nonces look like those of real sites: nothing compresses them."""

    def number(self):
        return sha256(str(self.count).encode()).hexdigest()[:32]


class Alone:
    """A node without connections."""

    links: dict[str, object] = {}

    def send(self, organization, messages):
        """Nobody is there."""


class Grown:
    """What executing a block left behind."""

    def __init__(self, rows, nodes):
        self.changes, self.new_nodes, self.accumulator = rows, nodes, bytes(2048)


def federated_averaging():
    """A world with a certified row, and the indexes of its results."""
    world = Busy(quantum=True)
    digits = Digits(world, world.organizations, "hospital-a")
    digits.grant_all()
    tasks, final, _ = digits.fedavg("hospital-b")
    world.plan("hospital-a", tasks, final=[final["key"]], objectives=[digits.objective])
    world.run_all()
    world.submit("hospital-a", {"op": "leaderboard.record", "objective": digits.objective})
    rows = world.rows.scan(f"certified/{digits.objective}/")
    return world, sorted(row["index"] for _, row in rows)


def bodies(world):
    """The world's leaves, then others up to a million, in blocks."""
    yield tuple(world.leaves)
    for start in range(len(world.leaves), LEAVES, BLOCK):
        stop = min(start + BLOCK, LEAVES)
        yield tuple(FILLER + index.to_bytes(8) for index in range(start, stop))


def fill(store, world):
    """Makes all of it final in a store; returns the last header."""
    store.seed(dict(world.rows.items()), bytes(2048))
    frontier, parent = Frontier(), world.genesis.net_bytes
    for height, body in enumerate(bodies(world), 1):
        nodes = []
        for leaf in body:
            frontier, new = frontier.append(leaf_hash(leaf))
            nodes += new
        header = Header(
            *(world.genesis.net_bytes, 0, height, height, parent, height - 1),
            *(Justification(None).skips_digest, len(body), frontier.size, frontier.root()),
            *(LtHash().digest(), world.time_ms + height, 0),
        )
        block, parent = Block(header, body, Justification(None)), header.hash
        votes = [
            Vote.sign(
                Epoch.first(world.genesis),
                named_key(f"{name} vote"),
                place,
                FINALIZE,
                height,
                parent,
            )
            for place, name in enumerate(world.organizations)
        ]
        store.apply([(block, Grown({}, nodes))], Certificate.of(votes, len(votes)))
    return header


def cosign(world, header, rows, store):
    """All members sign the head, as they do after finality."""
    origin = origin_of(world.genesis.name, world.genesis.net)
    signers = signers_of(rows, 0, world.genesis)
    for place, member in enumerate(signers.members):
        name = member.organization
        keys = CosignKeys(named_key(f"{name} log"), named_key(f"{name} cosign"), named_mldsa(name))
        given = (Head.of(header), origin, place, member, keys, 1_800_000_000)
        found = {(name, each.type): each.signature for each in (*sign(*given), *sign_mldsa(*given))}
        store.add(Head.of(header), found, agreed=True, k=signers.k)


def median_ms(work):
    """The median of many, in milliseconds, and what the last one returned."""
    took = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        result = work()
        took.append(time.perf_counter() - begun)
    return 1000 * statistics.median(took), result


def measure(folder):
    """Builds the ledger in a folder; yields the figures."""
    world, results = federated_averaging()
    ledger = LedgerStore(folder / "ledger.db")
    header = fill(ledger, world)
    heads = CosignatureStore(folder / "cosignatures.db")
    cosign(world, header, ledger.rows, heads)
    key = named_key("hospital-a log")
    part = Cosigning(
        world.genesis,
        "hospital-a",
        CosignKeys(key, key, None),
        lambda epoch: signers_of(ledger.rows, epoch, world.genesis),
        ledger,
        heads,
        Alone(),
        Clock(),
    )
    prover = Prover(world.genesis, ledger, part)
    loop = asyncio.new_event_loop()
    first, *others = results
    made, data = median_ms(lambda: loop.run_until_complete(prover.bundle(first, tuple(others))))
    verified, report = median_ms(lambda: verifier.verify(data, world.genesis.bytes))
    loop.close()
    assert report.ok, report.refusal
    assert report.facts["size"] == LEAVES, report.facts
    assert "stood" in report.facts, report.facts
    assert len(report.facts["signed with ML-DSA-44"]) == 3, report.facts
    yield figure("row's bundle in a ledger of 1 M: made", round(made, 2), "ms", 10)
    yield figure("row's bundle in a ledger of 1 M: verified", round(verified, 2), "ms", 50)
    yield figure("row's bundle in a ledger of 1 M: size", len(data) / 1000, "kB", 20)
    heads.close()
    ledger.close()


def figure(name, value, unit, bar):
    """A figure that must not exceed its bar."""
    return {"figure": name, "value": value, "unit": unit, "bar": bar, "holds": value <= bar}


def main():
    """Yields the three figures."""
    with tempfile.TemporaryDirectory() as folder:
        yield from measure(Path(folder))
