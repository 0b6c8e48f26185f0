"""The state machine: leaves of a block and its time go in, the state after it comes out.

Invariants:
- Pure: the same parent and leaves give the same rows, root and digest at every node, on every
  machine.
- An entry's operations all hold or none (A2): what they changed before one failed is undone.
- The same entry is recorded once: its id is a row (A2).
- System leaves (certified results, recorded leaderboards, an epoch's end) follow the entry that
  caused them; a voter recomputes them and compares bytes. An epoch's end is the last leaf of its
  block (M2). Evidence has no author either, and stands before all entries (E1).
- Expiry is judged in ledger time, the block's `time_ms`.

Left to others: the form of leaves (`forms`), votes and durability (`replica`, the node's storage),
what operations do under each version of the rules (`versions`, `state`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

from tilth_ledger import canonical, recent_heads, rules_evidence, state
from tilth_ledger.context import Context
from tilth_ledger.epochs import Membership, epoch_key, membership_of, newest
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.evidence import Evidence
from tilth_ledger.forms import Checked, Forms
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import PublicKey
from tilth_ledger.leaf import (
    EPOCH_END,
    EVIDENCE,
    Entry,
    Leaf,
    leaf_type,
    verify_author,
)
from tilth_ledger.limits import Limits
from tilth_ledger.lthash import LtHash, SetHash
from tilth_ledger.merkle import Frontier, NewNode, leaf_hash
from tilth_ledger.rows import MemoryRows, Overlay, Row, Rows, RowView
from tilth_ledger.snapshots import voters_of
from tilth_ledger.versions import RULES, Rules

UNVERIFIED_LEAVES = 64  # of a block that is built; those that are verified may be more


class AlreadyRecorded(Refused):
    """The same entry is on the ledger (A2); `index` is its receipt, `entry` its id."""

    def __init__(self, entry: str, index: int) -> None:
        super().__init__(
            "A2",
            "this entry is recorded already",
            found=f"entry {entry} at index {index}",
            expected="an entry that is not on the ledger yet",
            remedy="Nothing to do: the earlier receipt stands.",
        )
        self.entry = entry
        self.index = index


@dataclass(slots=True)
class State:
    """The ledger after a block; `rows` holds the block's changes on top of its parent's rows."""

    rows: Overlay
    frontier: Frontier
    lthash: SetHash
    time_ms: int
    epoch: int  # in force after the block
    rules_version: int  # of that epoch
    new_nodes: tuple[NewNode, ...] = ()
    entries: Mapping[str, int] = field(default_factory=dict)  # of the block: id and index
    root: bytes = b""
    size: int = 0
    _digest: bytes = b""

    def __post_init__(self) -> None:
        self.size = self.frontier.size
        self.root = self.frontier.root()

    @property
    def digest(self) -> bytes:
        """Of all rows: what a header states."""
        if not self._digest:
            self._digest = self.lthash.digest()
        return self._digest

    @property
    def changes(self) -> dict[str, bytes | None]:
        """Rows that the block put (canonical bytes) or deleted (None)."""
        return self.rows.changes

    @property
    def accumulator(self) -> bytes:
        """The set hash's state: what a node stores to go on from."""
        return self.lthash.state

    def rebase(self, rows: Rows) -> None:
        """Stand on `rows`, which hold everything up to and including this block's parent."""
        self.rows.rebase(rows)


@dataclass(frozen=True, slots=True)
class Built:
    """A block's body: what executes, in order, and what does not."""

    leaves: tuple[bytes, ...]
    state: State
    refused: tuple[tuple[str, TilthError], ...]


@dataclass(slots=True)
class _Block:
    """A block under execution."""

    parent: State
    rows: Overlay
    time_ms: int
    epoch: int
    rules_version: int
    leaves: list[bytes] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    body_bytes: int = 0
    has_entries: bool = False

    def append(self, leaf: bytes) -> None:
        self.leaves.append(leaf)
        self.body_bytes += len(leaf)

    @property
    def size(self) -> int:
        """Of the tree, with the leaves so far."""
        return self.parent.size + len(self.leaves)

    def state(self) -> State:
        parent = self.parent
        frontier, nodes = parent.frontier.extend([leaf_hash(leaf) for leaf in self.leaves])
        recent_heads.note(self.rows, parent.size, frontier, ends_epoch=self.ends_epoch)
        lthash = parent.lthash.replace(*self.rows.executed())
        return State(
            self.rows,
            frontier,
            lthash,
            self.time_ms,
            self.epoch,
            self.rules_version,
            tuple(nodes),
            self.entries,
        )

    @property
    def ends_epoch(self) -> bool:
        return self.epoch != self.parent.epoch


class Executor:
    """The rules of one consortium; holds no state but a cache of verified leaves."""

    def __init__(
        self,
        genesis: Genesis,
        rows: Rows | None = None,
        rules: Mapping[int, Rules] = RULES,
    ) -> None:
        self.genesis = genesis
        self._rules = rules
        self.limits = Limits.of_genesis(genesis.limits)
        self.rows: Rows = rows if rows is not None else MemoryRows()
        self._forms = Forms(genesis, rules)

    def genesis_state(self) -> State:
        """The state before the first block: organizations and their first identities."""
        rows = Overlay(MemoryRows())
        for key, row in state.genesis_rows(self.genesis):
            rows.put(key, row)
        lthash = LtHash().replace(*rows.executed())
        return State(rows, Frontier(0, ()), lthash, 0, 0, self.genesis.rules_version)

    def load(self, frontier: Frontier, accumulator: bytes, time_ms: int) -> State:
        """The state of the last final block, whose rows are `self.rows`."""
        number, epoch = newest(self.rows)
        lthash = LtHash.from_state(accumulator)
        version = epoch["rules_version"]
        return State(Overlay(self.rows), frontier, lthash, time_ms, number, version)

    def membership(self, state: State) -> Membership:
        """Who votes and follows after the block of `state`."""
        return membership_of(state.rows)

    def voters(self, state: State, epoch: int) -> Membership | None:
        """Who voted in an epoch, past or in force; None before it begins."""
        row = state.rows.get(epoch_key(epoch))
        return None if row is None else voters_of(epoch, row)

    def knows(self, rules_version: int) -> bool:
        """Whether this release can execute entries under these rules."""
        return rules_version in self._rules

    def rules(self, state: State) -> Rules:
        """Those in force after the block of `state`, which this release must know."""
        return self._rules[state.rules_version]

    def settle(self, state: State) -> None:
        """`state`'s changes are in `self.rows` now: it may stand on them."""
        state.rebase(self.rows)

    def build(self, parent: State, leaves: Sequence[bytes], time_ms: int) -> Built:
        """A body of as many of `leaves` as execute and fit; what is neither in the body nor
        refused stays for the next block."""
        block = self._block(parent, time_ms)
        refused: list[tuple[str, TilthError]] = []
        for leaf in leaves:
            if self._full(block, leaf) or self._waits(block, leaf):
                break
            try:
                derived = self._take(block, leaf)
            except TilthError as error:
                refused.append((_id_of(leaf), error))
                continue
            block.append(leaf)
            for system in derived:
                block.append(system)
            if block.ends_epoch:
                break
        return Built(tuple(block.leaves), block.state(), tuple(refused))

    def execute(self, parent: State, leaves: Sequence[bytes], time_ms: int) -> State:
        """The state after a proposed body; `Refused` or `InvalidInput` when one leaf does not
        execute or a system leaf is not the one that follows."""
        block = self._block(parent, time_ms)
        expected: list[bytes] = []
        for leaf in leaves:
            if expected:
                _check_system_leaf(leaf, expected.pop(0))
            else:
                _check_last(block)
                self._check_room(block, leaf)
                expected = self._take(block, leaf)
            block.append(leaf)
        if expected:
            _check_system_leaf(b"", expected[0])
        return block.state()

    @staticmethod
    def root_after(parent: State, leaves: Sequence[bytes]) -> bytes:
        """The tree's root after these bytes, whether or not they execute."""
        return parent.frontier.extend([leaf_hash(leaf) for leaf in leaves])[0].root()

    def _check_room(self, block: _Block, leaf: bytes) -> None:
        if self._full(block, leaf):
            raise InvalidInput(
                "the block is larger than the genesis file allows",
                found=f"a leaf after {len(block.leaves)} leaves, {block.body_bytes} bytes and"
                f" {len(block.rows.changes)} row writes",
                expected=f"at most {self.limits.block_leaves} leaves, {self.limits.block_bytes}"
                f" bytes, {self.limits.block_row_writes} row writes",
            )

    def admit(self, leaf: bytes) -> str:
        """The id of a submitted leaf whose form holds; raises `InvalidInput`."""
        return self._forms.look_at(leaf).id

    def prepare(self, leaf: bytes) -> tuple[Leaf, Entry]:
        """Take a leaf in ahead of its execution, which will then ask for no signature: verifying
        it (`verify_author`), at leisure and perhaps elsewhere, is left to the caller. Raises
        `InvalidInput` when the form does not hold."""
        checked = self._forms.look_at(leaf)
        checked.verified = True
        return checked.leaf, checked.entry

    def verify_ahead(self, leaf: bytes) -> None:
        """Do now what executing this leaf will ask for whatever the state: its form, and its
        signature if its author is known. What fails here is judged when it is executed."""
        try:
            checked = self._forms.look_at(leaf)
            author = self.rows.get(f"identity/{checked.entry.author}")
            if author is not None:
                _verify(checked, author)
        except (InvalidInput, Refused):
            pass

    def accept(self, leaf: bytes) -> tuple[Leaf, Entry]:
        """As `prepare`, of a leaf whose form was checked elsewhere (`Forms.check`)."""
        checked = self._forms.accept(leaf)
        checked.verified = True
        return checked.leaf, checked.entry

    def check(self, parent: State, leaf: bytes, time_ms: int) -> None:
        """Execute a submitted leaf on `parent` and forget it: raises what it would be refused
        for."""
        self._apply(self._block(parent, time_ms), leaf)

    def _block(self, parent: State, time_ms: int) -> _Block:
        if not self.knows(parent.rules_version):
            raise InvalidInput(
                "this release lacks the rules that are in force",
                found=f"rules_version {parent.rules_version}",
                expected=", ".join(map(str, self._rules)),
                remedy="Install a release that has them.",
            )
        rows = Overlay(parent.rows)
        epoch, version = parent.epoch, parent.rules_version
        return _Block(parent, rows, time_ms, epoch, version)

    def _full(self, block: _Block, leaf: bytes) -> bool:
        limits = self.limits
        return bool(block.leaves) and (
            len(block.leaves) >= limits.block_leaves
            or block.body_bytes + len(leaf) > limits.block_bytes
            or len(block.rows.changes) >= limits.block_row_writes
        )

    def _waits(self, block: _Block, leaf: bytes) -> bool:
        """Whether a leaf stays for the next block because its signature is yet to be verified: a
        leader that verifies many holds up all others, who verify them meanwhile."""
        return len(block.leaves) >= UNVERIFIED_LEAVES and not self._forms.is_verified(leaf)

    def check_evidence(self, state: State, evidence: Evidence) -> None:
        """Raise `InvalidInput` unless a member signed both votes."""
        rules_evidence.check(state.rows, self.genesis.net_bytes, evidence)

    def holds(self, state: State, evidence: Evidence) -> bool:
        """Whether evidence of this name stands in `state` already."""
        return state.rows.get(rules_evidence.row_key(state.rows, evidence)) is not None

    def _take(self, block: _Block, leaf: bytes) -> list[bytes]:
        """Execute one leaf into the block's rows; the system leaves that follow it."""
        if leaf_type(leaf) == EVIDENCE:
            place = block.size, block.time_ms
            rules_evidence.record(
                block.rows, self.genesis.net, leaf, place, behind_entry=block.has_entries
            )
            return []
        block.has_entries = True
        return self._apply(block, leaf)

    def _apply(self, block: _Block, leaf: bytes) -> list[bytes]:
        """Execute one entry into the block's rows; the system leaves that follow it."""
        checked = self._forms.look_at(leaf)
        block.rows.mark()
        try:
            return self._apply_entry(block, checked)
        except TilthError:
            block.rows.undo()
            raise

    def _apply_entry(self, block: _Block, checked: Checked) -> list[bytes]:
        entry, rows = checked.entry, block.rows
        rules = self._rules[block.rules_version]
        if block.rules_version not in checked.versions:
            for operation in entry.operations:
                rules.check(operation)  # raises: this form is of other rules than those in force
        author = state.identity(rows, entry.author)
        _verify(checked, author)
        if (recorded := rows.get(f"entry/{checked.id}")) is not None:
            raise AlreadyRecorded(checked.id, recorded["index"])
        _check_expiry(entry, block.time_ms)
        roles = state.check_author(author, entry.organization, block.time_ms)
        context = Context(
            rows=rows,
            limits=self.limits,
            net=self.genesis.net,
            time_ms=block.time_ms,
            index=block.size,
            entry=checked.id,
            author=entry.author,
            organization=entry.organization,
            roles=roles,
        )
        for operation in entry.operations:
            rules.apply(context, operation)
        receipt = {"index": context.index, "time_ms": block.time_ms}
        rows.put(f"entry/{checked.id}", {**receipt, "organization": entry.organization})
        # A system leaf may prove too large: then nothing of the entry holds.
        derived = [_system_leaf(kind, statement) for kind, statement in context.derived]
        if (end := context.epoch_end) is not None:
            derived.append(_system_leaf(EPOCH_END, end))
            rows.put(epoch_key(end["epoch"]), {**end, "index": context.index + len(derived)})
            block.epoch, block.rules_version = end["epoch"], end["rules_version"]
        block.entries[checked.id] = context.index
        return derived


_public_key = lru_cache(512)(PublicKey.from_hex)  # of authors, who write again


def _verify(checked: Checked, author: RowView) -> None:
    """Once for a leaf: the key follows from its author's id, so the verdict needs no other row."""
    if not checked.verified:
        verify_author(checked.leaf, _public_key(author["public"]))
        checked.verified = True


def _check_expiry(entry: Entry, time_ms: int) -> None:
    if entry.not_after is not None and time_ms > entry.not_after:
        raise Refused(
            "A5",
            "the entry has expired",
            found=f"ledger time {time_ms} ms",
            expected=f"at most its not_after, {entry.not_after} ms",
            remedy="Sign it again with a later not_after; check this machine's clock.",
        )


def _check_system_leaf(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise Refused(
            "T3",
            "a system leaf is not the one that follows from the entry before it",
            found=sha256(found).hexdigest() if found else "no leaf",
            expected=sha256(expected).hexdigest(),
            remedy="The proposer runs other rules than this node: compare their versions.",
        )


def _check_last(block: _Block) -> None:
    if block.ends_epoch:
        raise Refused(
            "M2",
            "a leaf follows the end of an epoch",
            found=f"a leaf after {len(block.leaves)} leaves",
            expected="nothing: the next epoch's members decide on it",
            remedy="The proposer breaks the rules of voting: look at its software.",
        )


def _system_leaf(kind: int, statement: Row) -> bytes:
    return Leaf(kind, canonical.dumps(statement)).encode()


def _id_of(leaf: bytes) -> str:
    """The id of a leaf that may not even decode: then the hash of its bytes stands for it."""
    try:
        return Leaf.decode(leaf).id
    except TilthError:
        return sha256(leaf).hexdigest()
