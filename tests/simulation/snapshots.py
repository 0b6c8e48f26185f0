"""States of a search: members that are copied before each step, and what tells states apart.

Left to others: what may happen next (explore).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from number_ledger import Consortium, Keys, MemoryArchive, NumberExecutor, Numbers

from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import Vote
from tilth_ledger.effects import Effects
from tilth_ledger.journal_records import OwnVote, decode_record
from tilth_ledger.messages import Message, Proposal, Votes
from tilth_ledger.replica import Replica

Wire = dict[tuple[int, int, bytes], Message]


@dataclass(frozen=True)
class Local:
    """One member, its disk and its clock; never changed, but for the copy that takes a step."""

    replica: Replica
    archive: MemoryArchive
    journal: tuple[bytes, ...] = ()
    now: int = 0
    timer: int | None = None
    timers: int = 0
    crashes: int = 0
    said: frozenset[Vote] = frozenset()
    mark: Any = None  # what tells it from others


@dataclass(frozen=True)
class Scene:
    """All members, and what is under way."""

    members: dict[int, Local]
    wire: Wire
    depth: int = 0
    told: frozenset[tuple[int, bytes]] = frozenset()  # what the liar had its say on

    @property
    def mark(self) -> Any:
        return (tuple(local.mark for local in self.members.values()), frozenset(self.wire))


def with_member(world: Scene, member: int, local: Local) -> Scene:
    return replace(world, members={**world.members, member: local})


def copied(local: Local) -> Local:
    known: dict[int, Any] = {}
    archive = cloned(local.archive, known)
    return replace(local, archive=archive, replica=cloned(local.replica, known))


def written(journal: tuple[bytes, ...], effects: Effects) -> tuple[bytes, ...]:
    promise = () if effects.promise is None else (effects.promise,)
    return effects.compact or (*journal, *effects.persist, *promise)


def votes_of(effects: Effects, member: int) -> frozenset[Vote]:
    """What a member signed in a step, whether it left already or is only durable."""
    votes: list[Vote] = []
    for body in effects.persist:
        record = decode_record(body)
        votes += [record.vote] if isinstance(record, OwnVote) else []
    for send in effects.send:
        votes += send.message.votes if isinstance(send.message, Votes) else ()
        votes += [send.message.vote] if isinstance(send.message, Proposal) else []
    return frozenset(vote for vote in votes if vote.member == member)


def cloned(value: Any, known: dict[int, Any]) -> Any:
    """A copy of all that can change; what cannot is shared."""
    if isinstance(value, dict):
        return {key: cloned(each, known) for key, each in value.items()}
    if isinstance(value, list | set | deque):
        return type(value)(cloned(each, known) for each in value)
    changing = type(value).__module__.split(".")[-1] in CHANGING and not isinstance(value, SHARED)
    if not changing:
        return value
    if id(value) in known:
        return known[id(value)]
    copy = known[id(value)] = object.__new__(type(value))
    names = [f.name for f in fields(value)] if is_dataclass(value) else list(vars(value))
    for name in names:
        object.__setattr__(copy, name, cloned(getattr(value, name), known))
    return copy


CHANGING = {
    "replica",
    "succession",
    "core",
    "block_tree",
    "votes",
    "pacemaker",
    "ballot",
    "pool",
    "docket",
    "barriers",
    "forwarding",
    "catch_up",
    "faults",
    "number_ledger",
}
SHARED = (type, NumberExecutor, Numbers, Keys, VoterRules, Consortium)


def mark_of(local: Local) -> Any:
    """All by which a member decides, but for clocks."""
    core, sync = local.replica._core, local.replica._sync
    views = core.table._views.items()
    return (
        core.view,
        core.tree.tip.hash,
        frozenset(local.journal),
        frozenset((c.hash, c.executed, c.journaled, c.failure) for c in core.tree),
        frozenset(
            (v, kind, m, vote.block) for v, k in views for (kind, m), vote in k.votes.items()
        ),
        frozenset((v, *key) for v, known in views for key in known.certificates),
        frozenset(core.ballot.votes),
        frozenset(core.proposals.items()),
        frozenset(core.invalid),
        tuple(core.pool._pending),
        len(core.docket),
        frozenset(core.owed.newest),
        (sync.asked, frozenset(sync.claims.items()), frozenset(sync.missing.items())),
        (core.pace.nullified, core.pace.attempt, core.pace.work_since_ms is None),
        (core.pace.stuck_since_ms is None, local.timer is None, local.timers, local.crashes),
        frozenset(core.confirmed),
    )
