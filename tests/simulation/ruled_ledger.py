"""The real state machine under the simulator: a script of signed entries that ends in certified
rows, archives of rows and tree nodes, and bundles of what became final.

Left to others: faults (world), nodes that join by snapshot (joiners).
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from checker import Checker, Violation
from number_ledger import MemoryArchive
from rules_world import Digits, named_key
from rules_world import World as RulesWorld

from tilth import verifier
from tilth_ledger import bundle, canonical
from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.bundle import Finality, Proven
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import CosignKeys, Head, publish, sign
from tilth_ledger.effects import Effects
from tilth_ledger.epochs import signers_of
from tilth_ledger.execution import Executor, State
from tilth_ledger.genesis import KEY_NAMES, Genesis, member_file, parse_member_file
from tilth_ledger.journal_records import Journal
from tilth_ledger.leaf import ENTRY, leaf_type
from tilth_ledger.merkle import EMPTY_ROOT, Frontier, NewNode
from tilth_ledger.restart import Restored
from tilth_ledger.rows import MemoryRows
from tilth_ledger.snapshot_rows import Place
from tilth_ledger.snapshots import Milestone, Offer, grown

MEMBERS = ("m0", "m1", "m2", "m3")
NEWCOMER = "m4"
SITES = MEMBERS[:2]
CHANGES = 40  # bytes changed of every bundle
HEX = "0123456789abcdef"


class Script(RulesWorld):
    """What the clients of a real consortium hand in, in order: four members and one that follows;
    two sites train and test a model, and its row is certified."""

    def __init__(self) -> None:
        def party(name: str) -> Any:
            keys = {purpose: named_key(f"{name} {purpose}") for purpose in KEY_NAMES}
            pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            return parse_member_file(member_file(name, name, keys, pem, aggregates=name == "m1"))

        parties = [party(name) for name in (*MEMBERS, NEWCOMER)]
        self.genesis = Genesis.write(
            "simulated", parties[:-1], parties[-1:], limits={}, q=3, k=3, delta_ms=300
        )
        self.organizations = (*MEMBERS, NEWCOMER)
        self.time_ms, self.count, self.leaves = 1_700_000_000_000, 0, []
        self.proposer, self.voter = self._replica(), self._replica()
        for name in SITES:
            self.add_identity(name, f"{name} person", ("owner", "organizer", "scientist"))
        digits = Digits(self, SITES, "m0")
        digits.grant_all()
        tasks, _, _ = digits.fedavg("m1", rounds=1)
        self.plan("m0", tasks)
        self.run(*tasks)

    @property
    def entries(self) -> list[bytes]:
        """The entries alone: what follows from them every voter derives."""
        return [leaf for leaf in self.leaves if leaf_type(leaf) == ENTRY]


@lru_cache(maxsize=1)
def script() -> Script:
    return Script()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node's store says of its newest block."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    digest: bytes = b""


class RuledArchive(MemoryArchive):
    """A node's store: final blocks (None where a snapshot left them out), rows, tree nodes."""

    def __init__(self, genesis: Genesis) -> None:
        super().__init__()
        self.genesis = genesis
        self.rows = MemoryRows()
        self.nodes: dict[tuple[int, int], bytes] = {}
        self._touched: list[tuple[int, frozenset[str]]] = []  # keys by the size after each block
        self._known_from = 0  # since which size
        state = Executor(genesis).genesis_state()
        self.rows.apply(state.changes)
        self._take(state)

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def block(self, height: int) -> bytes | None:
        held = self.held(height)
        return None if held is None else held.encode()

    def header(self, height: int) -> Header | None:
        held = self.held(height)
        return None if held is None else held.header

    def held(self, height: int) -> Block | None:
        return self.blocks[height - 1] if 1 <= height <= len(self.blocks) else None

    @property
    def is_whole(self) -> bool:
        return all(block is not None for block in self.blocks)

    def leaves(self) -> list[bytes]:
        return [leaf for block in self.blocks for leaf in block.leaves]

    def apply(self, effects: Effects) -> None:
        for final in effects.finalized:
            self.rows.apply(final.state.changes)
            self._touched.append((final.state.size, frozenset(final.state.changes)))
            self._complete(final.state.new_nodes)
            self.blocks.append(final.block)
            self.time_ms = final.block.header.time_ms
            self._take(final.state)
        if effects.finalized:
            last = effects.finalized[-1]
            self.certificates[len(self.blocks)] = last.certificate.encode()

    def adopt(self, tip: Milestone, rows: dict[str, bytes], accumulator: bytes) -> None:
        """Begin in the middle."""
        header, size = tip.block.header, tip.before.size
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        peaks = zip(levels, tip.before.peaks, strict=True)
        self._complete((level, (size >> level) - 1, peak) for level, peak in peaks)
        self._complete(grown(tip.before, tip.block)[1])
        self.rows, self.accumulator = MemoryRows(rows), accumulator
        self._touched, self._known_from = [], header.size
        below: list[Any] = [None] * (header.height - 1)
        self.blocks = [*below, tip.block]
        self.certificates = {header.height: tip.certificate.encode()}
        self.state = Shown(header.size, header.root, header.state)  # type: ignore[assignment]
        self.time_ms = header.time_ms

    def put(self, blocks: Sequence[tuple[Block, Certificate | None, Sequence[NewNode]]]) -> None:
        """Blocks of the past."""
        for block, certificate, nodes in blocks:
            height = block.header.height
            self.blocks[height - 1] = block
            self._complete(nodes)
            if certificate is not None:
                self.certificates[height] = certificate.encode()

    def changed(self, place: Place) -> list[str] | None:
        """Keys up to a place of rows that changed since; None when that is not known."""
        if not place.key:
            return []
        if place.size < self._known_from:
            return None
        keys = {key for size, some in self._touched if size > place.size for key in some}
        return sorted(key for key in keys if key <= place.key)

    def offer(self) -> bytes:
        """What a snapshot begins with: the newest block."""
        rows = [(len(key.encode()), len(value)) for key, value in self.rows.items()]
        return Offer((self.milestone(),), len(rows), sum(map(sum, rows))).encode()

    def milestone(self) -> Milestone:
        """The newest block, as a snapshot states it."""
        height = len(self.blocks)
        header = self.blocks[-1].header
        before = Frontier.read(header.size - header.leaf_count, self.node)
        return Milestone(before, self.blocks[-1], Certificate.decode(self.certificates[height]))

    def load(self, executor: Executor) -> Any:
        """The newest state, as a restarted process reads it."""
        size = self.state.size
        if not self.blocks:
            state = executor.genesis_state()
            executor.settle(state)
            return state
        return executor.load(Frontier.read(size, self.node), self.accumulator, self.time_ms)

    def restored_on(self, executor: Executor, journal: Journal) -> Restored:
        stored = self.certificates.get(len(self.blocks))
        tip = self.blocks[-1] if self.blocks else None
        final = Certificate.decode(stored) if stored else None
        return Restored(self.load(executor), tip, final, journal.bodies, doubtful=journal.damaged)

    def _complete(self, nodes: Any) -> None:
        self.nodes |= {(level, index): hashed for level, index, hashed in nodes}

    def _take(self, state: State) -> None:
        self.accumulator = state.accumulator
        shown = Shown(state.size, state.root, state.digest)
        self.state = shown  # type: ignore[assignment]


class RuledChecker(Checker):
    """The invariants, where every final block is executed by the rules."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.rules = Executor(self.genesis, MemoryRows())
        self.ruled = self.rules.genesis_state()
        self._settle(self.ruled)

    def _check_outcome(self, block: Block) -> None:
        header = block.header
        after = self.rules.execute(self.ruled, block.leaves, header.time_ms)
        if (header.size, header.root, header.state) != (after.size, after.root, after.digest):
            raise Violation(f"final block at height {header.height} states what is not so")
        self._settle(after)
        self.ruled = after

    def same_chain(self, member: int, blocks: list[Block]) -> None:
        if all(block is not None for block in blocks[-3:]):
            super().same_chain(member, blocks)

    def finish(self, submitted: dict[str, str], state: object) -> None:
        if missing := [name for name in submitted.values() if name not in self.ids]:
            raise Violation(f"{len(missing)} entries are not final: {missing[:3]}")

    def _settle(self, state: State) -> None:
        self.rules.rows.apply(state.changes)  # type: ignore[attr-defined]
        self.rules.settle(state)


def row_bundle(archive: RuledArchive) -> tuple[bytes, int]:
    """The bundle of all certified results on a node's newest block, cosigned by k; and how many."""
    genesis, header = archive.genesis, archive.blocks[-1].header
    final = Certificate.decode(archive.certificates[len(archive.blocks)])
    signers = signers_of(archive.rows, 0, genesis)
    assert signers is not None
    head, origin = Head.of(header), origin_of(genesis.name, genesis.net)
    signatures = {}
    for place, member in enumerate(signers.members[: genesis.k]):
        name = member.organization
        keys = CosignKeys(named_key(f"{name} log"), named_key(f"{name} cosign"), None)
        for signed in sign(head, origin, place, member, keys, header.time_ms // 1000):
            signatures[name, signed.type] = signed.signature
    note = publish(head, signatures, signers, origin, MEMBERS[0])
    proven = Proven(header.size, note, Finality(header, final))
    results = [row["index"] for _, row in archive.rows.scan("certified/")]
    leaves = archive.leaves()
    made = bundle.make(
        genesis, proven, results, leaves.__getitem__, archive.node, archive.rows, None
    )
    return made, len(results)


def check_bundle(archive: RuledArchive, random: Random) -> int:
    """What a node exports passes the independent verifier, which shares no code with it; with any
    byte changed of what is signed or hashed it fails. The number of rows."""
    genesis = archive.genesis.bytes
    data, rows = row_bundle(archive)
    report = verifier.verify(data, genesis)
    if not report.ok or len(report.facts["results"]) != rows:
        raise Violation(f"the verifier refuses an exported bundle: {report.refusal}")
    for changed, what in changed_bundles(data, random):
        if verifier.verify(changed, genesis).ok:
            raise Violation(f"the verifier takes a bundle with another {what}")
    return rows


def changed_bundles(data: bytes, random: Random) -> Iterator[tuple[bytes, str]]:
    """The bundle with one byte changed, in its signed and hashed parts."""
    for _ in range(CHANGES):
        value = json.loads(data)
        what = random.choice(("header", "certificate", "content", "hashes", "checkpoint", "path"))
        match what:
            case "header" | "certificate":
                value[what] = _other(value[what], random, HEX)
            case "content":
                content = bytearray(zlib.decompress(b64decode(value[what])))
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
                value[what] = b64encode(zlib.compress(content)).decode()
            case "hashes":
                place = random.randrange(len(value[what]))
                step = bytearray(b64decode(value[what][place]))
                step[random.randrange(len(step))] ^= 1 << random.randrange(8)
                value[what][place] = b64encode(step).decode()
            case "checkpoint":
                text, _, lines = value[what].partition("\n\n")
                value[what] = _other(text, random, HEX) + "\n\n" + lines
            case _:
                path = random.choice(value["leaves"])["path"]
                place = random.randrange(len(path))
                path[place] = (path[place] + 1) % len(value["hashes"])
        yield canonical.dumps(value), what


def _other(text: str, random: Random, letters: str) -> str:
    place = random.randrange(len(text))
    new = random.choice([letter for letter in letters if letter != text[place]])
    return text[:place] + new + text[place + 1 :]
