"""The audit of a whole ledger: every block again, from genesis, and what a copy stores beside them.

    audit = Audit(genesis)
    for counts in audit.follow(blocks, verify):     # blocks: StoredBlock in order of height
        ... show progress
    report = audit.finish(Stored(rows, accumulator, leaves, nodes))

Four strands run side by side, and one that breaks does not silence the others: the chain (links,
views, leaders, justifications, certificates), the authors' signatures, the tree, and the state (all
rules by execution; system leaves recomputed). A tree or state that disagrees is told where it
begins, not at every block after it. Where a block does not execute, no later state is known: rules
are not judged after it, and the stored rows are compared with the last header's digest only. Where
this release lacks the rules, an entry whose form it cannot read is no finding either.

Every epoch's votes are held against its own members, who follow from executing the blocks before
it; the block that ends an epoch must carry the certificate of that epoch's members.

Invariants:
- Nothing stored is believed: hashes, roots, digests and rows are recomputed from leaf bytes, and
  compared.
- Every leaf that is executed has its author's signature checked, once, whatever comes of it.
- Memory: a window of blocks, the rows of the state (all of them, in memory), nothing else that
  grows with the ledger.

Left to others: reading files, threads (`verify`), showing the report. A block that is stored
without a finality certificate is final through a later one that has one; earlier certificates that
were removed are not missed, and blobs and models are not part of the ledger. A ledger cut off
behind a certified block is a whole one: only its own journal's promise, or another node, tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tilth_ledger.audit_checks import (
    Check,
    Outcome,
    Verify,
    at_once,
    certified,
    justified,
    proven_by,
    read_justification,
    signed,
)
from tilth_ledger.audit_digests import Digests
from tilth_ledger.audit_entries import FAULTS, Authors
from tilth_ledger.audit_rows import Stored, against_digest, against_rows
from tilth_ledger.blocks import Certificate, Header
from tilth_ledger.epochs import Epoch, epoch_key
from tilth_ledger.errors import InvalidInput
from tilth_ledger.execution import Executor, State
from tilth_ledger.findings import Counts, Report, finding
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import DERIVED, ENTRY, leaf_type
from tilth_ledger.lthash import LtHash, SetHash
from tilth_ledger.merkle import Frontier, NewNode, leaf_hash
from tilth_ledger.rows import MemoryRows
from tilth_ledger.rules_members import CERTIFYING_ROLES
from tilth_ledger.versions import RULES, Rules

WINDOW_LEAVES = 4_096  # whose signatures are under way; fewer than the executor remembers

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """One block as a copy holds it, verbatim; `nodes` are the tree nodes that its leaves
    completed."""

    height: int
    size: int
    header: bytes
    justification: bytes
    leaves: tuple[bytes, ...]
    certificate: bytes | None
    nodes: tuple[NewNode, ...]
    void: tuple[bytes, ...] = ()  # through which the last block of an epoch became final
    formed: bool = False  # `Preview` found the form of all entries good
    signed: bool = False  # ... and their signatures


@dataclass(slots=True)
class _Prepared:
    """A block whose parts are decoded, and whose signatures are being verified."""

    stored: StoredBlock
    header: Header | None
    outcome: Outcome
    operations: int

    @property
    def weight(self) -> int:
        return 1 + len(self.stored.leaves)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the chain stands; `hash` is None below a header that cannot be read."""

    hash: bytes | None
    view: int
    height: int
    size: int
    time_ms: int
    root: bytes = b""
    state: bytes = b""


class Audit:
    """One pass over one ledger. `hashing` makes the set hash that goes on from genesis'."""

    def __init__(
        self,
        genesis: Genesis,
        hashing: Callable[[LtHash], SetHash] | None = None,
        rules: Mapping[int, Rules] = RULES,
    ) -> None:
        if genesis.rules_version not in rules:
            raise InvalidInput(
                "this release lacks the rules that the ledger follows",
                found=f"rules_version {genesis.rules_version}",
                expected=", ".join(map(str, rules)),
                remedy="Audit with a release that has them.",
            )
        self._genesis = genesis
        self._epoch = Epoch.first(genesis)
        self.report = Report(genesis.net, genesis.rules_version)
        self._rows = MemoryRows()
        self._executor = Executor(genesis, self._rows, rules)
        self._state: State | None = self._executor.genesis_state()
        self._rows.apply(self._state.changes)
        self._executor.settle(self._state)
        if hashing is not None:
            self._state.lthash = hashing(LtHash.from_state(self._state.accumulator))
        self._authors = Authors(genesis)
        self._before = _Place(genesis.net_bytes, 0, 0, 0, 0)
        self._frontier = Frontier()
        self._tree_agrees = True
        self._digests = Digests(self.report)
        self._certified = True
        self._begun = self._foreign = False
        self._knows_forms = True  # of entries: not under rules that this release lacks

    # -- block by block

    def follow(self, blocks: Iterable[StoredBlock], verify: Verify = at_once) -> Iterator[Counts]:
        """Check blocks in order of height; yields what was checked so far, after each."""
        waiting: deque[_Prepared] = deque()
        held = 0
        for stored in blocks:
            header = self._header(stored)
            if self._foreign:
                return
            if header is not None and header.epoch != self._epoch.number:
                while waiting:  # who votes in it follows from the blocks before
                    yield self._take(waiting.popleft())
                held = 0
            prepared = self._prepare(stored, header, verify)
            waiting.append(prepared)
            held += prepared.weight
            while held > WINDOW_LEAVES:
                held -= waiting[0].weight
                yield self._take(waiting.popleft())
        while waiting:
            yield self._take(waiting.popleft())

    def _header(self, stored: StoredBlock) -> Header | None:
        where = f"block {stored.height}"
        header = self._decoded("header", where, lambda: Header.decode(stored.header))
        if header is not None and not self._begun:
            self._look_at_genesis(header, where)
        self._begun = True
        return header

    def _prepare(self, stored: StoredBlock, header: Header | None, verify: Verify) -> _Prepared:
        """Decode, in order, and set the verification of all signatures going."""
        where = f"block {stored.height}"
        checks: list[Check] = []
        justification = self._decoded(
            "justification", where, lambda: read_justification(stored.justification)
        )
        known = header if header is not None and self._knows_members(header) else None
        if known is not None and justification is not None:
            checks.append(justified(where, justification, known, self._epoch))
        if stored.certificate is not None:
            encoded = stored.certificate
            final = self._decoded("certificate", where, lambda: Certificate.decode(encoded))
            if final is not None and known is not None:
                top = self._decoded("certificate", where, lambda: proven_by(known, stored.void))
                checks += [certified(where, final, top, self._epoch)] if top is not None else []
        votes = len(checks)
        operations = self._prepare_leaves(stored, checks)
        self.report.counts.certificates += votes
        return _Prepared(stored, header, verify(checks), operations)

    def _prepare_leaves(self, stored: StoredBlock, checks: list[Check]) -> int:
        operations = 0
        look = self._executor.accept if stored.formed else self._executor.prepare
        for index, leaf in enumerate(stored.leaves, stored.size - len(stored.leaves)):
            if leaf_type(leaf) != ENTRY:
                continue  # execution derives its bytes, or checks the votes of evidence
            where = f"leaf {index} in block {stored.height}"
            try:
                decoded, entry = look(leaf)
                author = self._authors.of(entry)
            except FAULTS as error:
                if self._knows_forms:
                    self._note("leaf", where, error, "an entry of this consortium")
                continue
            operations += len(entry.operations)
            # An author that no entry registered is refused when the entry is executed.
            if author is not None:
                self.report.counts.signatures += 1
                checks += [] if stored.signed else [signed(where, decoded, author)]
        return operations

    def _take(self, prepared: _Prepared) -> Counts:
        """Check one block against the one before it."""
        stored, header = prepared.stored, prepared.header
        where = f"block {stored.height}"
        self.report.extend(prepared.outcome())
        if header is not None:
            self._check_chain(header, stored, where)
        self._grow_tree(stored, header, where)
        ended = self._execute(stored, header, where)
        if stored.void and not ended:
            self._note("storage", where, "void blocks", "none: it ends no epoch")
        self._before = _place(stored, header)
        self._certified = stored.certificate is not None
        counts = self.report.counts
        counts.blocks += 1
        counts.leaves += len(stored.leaves)
        counts.operations += prepared.operations
        return counts

    def _look_at_genesis(self, header: Header, where: str) -> None:
        """Whether the first block is of this genesis: else nothing can be compared."""
        self._foreign = header.net != self._genesis.net_bytes
        if self._foreign:
            self._note("genesis", where, header.net, self._genesis.net)
            self.report.stopped.append("the ledger is not of this genesis: nothing was compared")

    def _check_chain(self, header: Header, stored: StoredBlock, where: str) -> None:
        before, epoch = self._before, self._epoch
        self._expect("genesis", where, "net", header.net.hex(), epoch.net.hex())
        self._expect("chain", where, "height", header.height, before.height + 1)
        self._expect("chain", where, "stored height", stored.height, header.height)
        if before.hash is not None:
            self._expect("chain", where, "parent", header.parent.hex(), before.hash.hex())
            self._expect("chain", where, "parent's view", header.parent_view, before.view)
            if header.time_ms <= before.time_ms:
                found, least = f"time {header.time_ms} ms", f"more than {before.time_ms} ms"
                self._note("chain", where, found, least)
        if self._knows_members(header):
            self._expect("chain", where, "epoch", header.epoch, epoch.number)
            self._expect("leader", where, "proposer", header.proposer, epoch.leader(header.view))
        self._expect("header", where, "leaf count", header.leaf_count, len(stored.leaves))
        self._expect("header", where, "size", header.size, before.size + header.leaf_count)
        self._expect("header", where, "stored size", stored.size, header.size)

    def _grow_tree(self, stored: StoredBlock, header: Header | None, where: str) -> None:
        expected: list[NewNode] = []
        for leaf in stored.leaves:
            self._frontier, new = self._frontier.append(leaf_hash(leaf))
            expected += new
        if set(stored.nodes) != set(expected):
            self._compare_nodes(stored, expected)
        if header is not None:
            root = self._frontier.root()
            if self._tree_agrees and header.root != root:
                self._note("tree", f"{where}, root", header.root, root)
            self._tree_agrees = header.root == root

    def _compare_nodes(self, stored: StoredBlock, expected: list[NewNode]) -> None:
        held = {(level, position): hashed for level, position, hashed in stored.nodes}
        for level, position, hashed in expected:
            found = held.pop((level, position), b"")
            if found != hashed:
                where = f"tree node {level}/{position}"
                self._note("tree", where, found or "no node", hashed)
        for level, position in held:
            self._note("tree", f"tree node {level}/{position}", "a node", "none")

    def _knows_members(self, header: Header) -> bool:
        """Whether it is known who votes: not in an epoch after the state was lost."""
        if header.epoch == self._epoch.number or self._state is not None:
            return True
        words = f"epoch {header.epoch}: who votes is not known, so no vote in it was checked"
        if words not in self.report.stopped:
            self.report.stopped.append(words)
        return False

    def _end_epoch(self, stored: StoredBlock, header: Header, after: State, where: str) -> None:
        """Go on with the members of the next epoch, which the old ones must have made final."""
        if stored.certificate is None:
            self._note("certificate", where, "none", "votes of the members whose epoch it ends")
        membership = self._executor.membership(after)
        net = self._genesis.net_bytes
        self._epoch = Epoch.starting(membership, net, header.hash, header.view, header.height)
        row = self._rows.get(epoch_key(after.epoch)) or {}
        keys = row["change"].get("keys", {})
        for role in CERTIFYING_ROLES if keys else ():
            public = PublicKey.from_hex(keys[role])
            self._authors.add(public)
        self.report.rules_version = after.rules_version
        self._knows_forms = self._executor.knows(after.rules_version)
        if not self._knows_forms:
            self._lose_state(f"{where}: this release lacks rules_version {after.rules_version}")

    def _execute(self, stored: StoredBlock, header: Header | None, where: str) -> bool:
        """Whether the block ends its epoch."""
        if self._state is None:
            return False
        if header is None:
            self._lose_state(f"{where}: its header, which holds the ledger's time, is unreadable")
            return False
        try:
            after = self._executor.execute(self._state, stored.leaves, header.time_ms)
        except FAULTS as error:
            place = self._culprit(self._state, stored, header.time_ms)
            self._note("rule", place, error, "leaves that the rules accept")
            self._lose_state(f"{place} does not execute")
            return False
        self._rows.apply(after.changes)
        self._executor.settle(after)
        self._state = after
        self._digests.expect(f"{where}, digest", header.state, after.lthash)
        ended = after.epoch != self._epoch.number
        if ended:
            self._end_epoch(stored, header, after, where)
        return ended

    def _culprit(self, before: State, stored: StoredBlock, time_ms: int) -> str:
        """Which leaf a block fails at: of the prefixes that end before an entry, the shortest
        that fails, found by halving."""
        leaves = stored.leaves
        cuts = [i for i, leaf in enumerate(leaves) if i and leaf_type(leaf) not in DERIVED]
        cuts.append(len(leaves))
        low, high = 0, len(cuts) - 1
        while low < high:
            middle = (low + high) // 2
            try:
                self._executor.execute(before, leaves[: cuts[middle]], time_ms)
            except FAULTS:
                high = middle
            else:
                low = middle + 1
        first = stored.size - len(leaves) + (cuts[low - 1] if low else 0)
        return f"leaf {first} in block {stored.height}"

    # -- at the end

    def finish(self, stored: Stored) -> Report:
        """Compare what else the copy stores; the report is whole then."""
        self._digests.compare()
        report, last = self.report, self._before
        report.height, report.size, report.root = last.height, last.size, last.root.hex()
        if self._foreign:
            return report
        if report.height < stored.promised:
            promise = f"at least {stored.promised} blocks, which its journal promises"
            self._note("storage", "the ledger's end", f"{report.height} blocks", promise)
        if not self._certified:
            self._note("certificate", f"block {report.height}", "none", "votes that made it final")
        size = self._frontier.size
        self._expect("storage", "leaf index", "leaves", stored.leaves, size)
        nodes = 2 * size - size.bit_count()
        self._expect("storage", "tree", "nodes", stored.nodes, nodes)
        if self._state is not None:
            accumulator = self._state.accumulator
            report.extend(against_rows(stored, self._rows.taken(), accumulator, report.counts))
        else:
            report.extend(against_digest(stored, last.state, report.counts))
        return report

    # -- findings

    def _note(self, what: str, where: str, found: object, expected: object) -> None:
        self.report.add(finding(what, where, found, expected))

    def _expect(self, what: str, where: str, name: str, found: object, expected: object) -> None:
        if found != expected:
            self._note(what, where, f"{name} {found}", f"{name} {expected}")

    def _decoded(self, what: str, where: str, decode: Callable[[], _T]) -> _T | None:
        try:
            return decode()
        except InvalidInput as error:
            self._note(what, where, error, f"a {what} that can be read")
            return None

    def _lose_state(self, why: str) -> None:
        self._state = None
        self.report.stopped.append(f"{why}: rules were not checked after it")


def _place(stored: StoredBlock, header: Header | None) -> _Place:
    if header is None:
        return _Place(None, 0, stored.height, stored.size, 0)
    facts = header.view, header.height, header.size, header.time_ms, header.root, header.state
    return _Place(header.hash, *facts)
