"""What goes into the replica and what comes out: events, effects, and the views it reads through.

Invariants:
- One `Effects` is the whole outcome of a step, and its fields stand in the order in which the
  shell carries them out.
- Nothing here has behaviour.

Left to others: deciding (replica), doing (the node's shell, the simulator).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tilth_ledger.blocks import Block, Certificate, Header
from tilth_ledger.epochs import Epoch, Membership
from tilth_ledger.errors import Fatal, TilthError
from tilth_ledger.evidence import Evidence
from tilth_ledger.keys import PublicKey, SigningKey
from tilth_ledger.messages import Message


@dataclass(frozen=True, slots=True)
class Start:
    """First event after construction."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message from a party, whose connection proved who it is; `member` is its place among
    `epoch.everyone()`, here and below: members first, then those who follow."""

    member: int
    message: Message


@dataclass(frozen=True, slots=True)
class Submitted:
    """An encoded leaf from a client of this node."""

    leaf: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A fresh nonce of this node's readers: they wait for a final block that lists it."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """The timer that was asked for has come."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A connection to a party stands (again)."""

    member: int


@dataclass(frozen=True, slots=True)
class PeerGone:
    """No connection to a party stands any more."""

    member: int


Event = Start | Received | Submitted | Asked | Tick | PeerConnected | PeerGone


class State(Protocol):
    """The ledger after some block, as the executor keeps it."""

    @property
    def size(self) -> int:
        """Leaves in the tree."""

    @property
    def root(self) -> bytes:
        """The tree's root."""

    @property
    def digest(self) -> bytes:
        """Digest of all rows."""

    @property
    def epoch(self) -> int:
        """The epoch in force after the block: a higher one than its own if the block ends it."""

    @property
    def time_ms(self) -> int:
        """Ledger time: that of the block."""

    @property
    def entries(self) -> Mapping[str, int]:
        """Ids of the block's entries, with the indexes of their leaves."""


class Built(Protocol):
    """The outcome of building a block's body."""

    @property
    def leaves(self) -> Sequence[bytes]:
        """The leaves to propose: those given that execute, and the system leaves derived."""

    @property
    def state(self) -> Any:
        """The state after them."""

    @property
    def refused(self) -> Sequence[tuple[str, TilthError]]:
        """Ids of the given leaves that do not execute, and why."""


class Executor(Protocol):
    """The state machine: pure functions of a parent's state and leaves."""

    def build(self, parent: Any, leaves: Sequence[bytes], time_ms: int) -> Built:
        """A body of as many of `leaves` as execute."""

    def execute(self, parent: Any, leaves: Sequence[bytes], time_ms: int) -> Any:
        """The state after `leaves`; raises `Refused` or `InvalidInput`."""

    def root_after(self, parent: Any, leaves: Sequence[bytes]) -> bytes:
        """The tree's root after these bytes, whether or not they execute."""

    def membership(self, state: Any) -> Membership:
        """Who votes and who follows after the block of `state`."""

    def voters(self, state: Any, epoch: int) -> Membership | None:
        """Who voted in an epoch up to that of `state`: enough to verify what they signed."""

    def knows(self, rules_version: int) -> bool:
        """Whether this release can execute entries under these rules."""

    def settle(self, state: Any) -> None:
        """`state`'s changes are durable: it may stand on the stored rows from now on."""

    def check_evidence(self, state: Any, evidence: Evidence) -> None:
        """Raise `InvalidInput` unless a member signed both votes."""

    def holds(self, state: Any, evidence: Evidence) -> bool:
        """Whether evidence of this name stands in `state` already."""


class Archive(Protocol):
    """Read access to the final blocks that the shell stored."""

    def block(self, height: int) -> bytes | None:
        """The encoded block at a height, or None above the finalized one."""

    def header(self, height: int) -> Header | None:
        """The header of the block at a height."""

    def certificate(self, height: int) -> bytes | None:
        """The encoded finality certificate that was stored with that block: of it, or of the last
        of `void`."""

    def void(self, height: int) -> Sequence[bytes]:
        """The encoded blocks above the last one of an epoch through which that became final."""


Keyring = Callable[[PublicKey], SigningKey | None]
"""Gives the signing key of a public one, if this node holds it."""


@dataclass(frozen=True, slots=True)
class Finalized:
    """A block that is final: `certificate` is of it, or of a later block of the same batch.

    `void`: of the last block of an epoch that became final through empty blocks above it, these;
    the certificate is of the last of them. They are no part of the ledger, but prove its part.
    """

    block: Block
    state: Any
    certificate: Certificate
    void: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """One message to some parties; encode it once."""

    to: tuple[int, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator must know: `kind` is evidence, fork, amnesia, repair,
    diverged, clock, keys, rules, unlisted or peer."""

    kind: str
    message: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """The outcome of a step. The shell does, in this order, and sends nothing before the rest:

    1. `persist`: append these records to the journal. One fdatasync.
    2. `finalized`: apply the blocks in ONE transaction, with the last one's certificate and void
       blocks.
    3. `promise`: write this record behind the others, without a sync of its own: it says what the
       store holds now, and that all before it was synced. Or `compact`: replace the journal by
       exactly these records (they include `persist` and a promise).
    4. `send`, answers to clients (`finalized`, `refused`), `alarms`.
    5. `timer_ms`: one timer at this monotonic time; None: no timer.
    6. `epoch`: a new one begins. Parties are numbered by it from the next step on; what came from
       parties that are none any more is dropped.
    7. `halt`: stop the process.
    """

    persist: tuple[bytes, ...] = ()
    finalized: tuple[Finalized, ...] = ()
    promise: bytes | None = None
    compact: tuple[bytes, ...] | None = None
    send: tuple[Send, ...] = ()
    refused: tuple[tuple[str, TilthError], ...] = ()
    alarms: tuple[Alarm, ...] = ()
    timer_ms: int | None = None
    epoch: Epoch | None = None
    halt: Fatal | None = None
