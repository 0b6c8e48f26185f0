"""Every vote that the real core cast in simulated runs is one that the model allows.

So the searches of `voting.pml` say something of the code: its runs are runs of the model. The twins
show that the check can fail: cores without a rule, and traces that were changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from checker import Violation
from faults import Faults, of_seed
from links import Node
from mutants import LIAR, MUTANTS, TWINS
from rules import Forbidden, Model
from world import World

from tilth_ledger.ballot import VoterRules
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, Kind, Vote
from tilth_ledger.effects import Alarm, Effects, Send
from tilth_ledger.epochs import Epoch
from tilth_ledger.journal_records import Held, OwnVote, decode_record, read_journal
from tilth_ledger.messages import Message, Proposal, Votes

SEEDS = (2, 3, 6, 7, 8, 9, 12, 13, 18, 22, 37, 52)
# By rule: a seed that met it when this was written, its faults, and what the model calls it.
WITHOUT = {
    "one notarize per view": (12, TWINS, "one notarize per view"),
    "no finalize after nullify": (0, LIAR, "no finalize after nullify"),
}
SEED_WITH_ALL = 9
MOST_SEEDS = 60
ORDER = (NOTARIZE, NULLIFY, FINALIZE)
Entry = Block | tuple[str, Epoch, Vote]


class TracedWorld(World):
    """A run that keeps, in order, what honest members hold for ever: blocks, and own votes.

    A vote is durable in the journal, or was sent, or stands in the certificate of a final block:
    one that makes its own block final goes into no journal any more.
    """

    def __init__(
        self, seed: int, faults: Faults, rules: Callable[[], VoterRules] | None = None
    ) -> None:
        super().__init__(seed, faults, rules)
        trusted = self.checker.honest - self.checker.fragile
        names = [f"m{number}" for number in range(len(self.instances))]
        self.liars = frozenset(names) - {f"m{number}" for number in trusted}
        self.entries: list[Entry] = []
        self._known: set[tuple[int, Kind, int, int, bytes]] = set()
        self._released: list[Message] = []
        self._send = self.network.send
        self.network.send = self._note_send

    def _check_alarm(self, node: Node, alarm: Alarm) -> None:
        if alarm.kind != "evidence":  # of a core without a rule: its votes are to be seen first
            super()._check_alarm(node, alarm)

    def _note_send(self, node: Node, send: Send, epoch: Epoch) -> None:
        self._released.append(send.message)
        self._send(node, send, epoch)

    def _carry_out(self, node: Node, effects: Effects, epoch: Epoch) -> None:
        self._released = []
        try:
            super()._carry_out(node, effects, epoch)
        finally:  # what an invariant forbids was said all the same
            self._keep(node, effects, epoch)

    def _keep(self, node: Node, effects: Effects, epoch: Epoch) -> None:
        bodies, votes = effects.compact or effects.persist, sent(self._released)
        if node.replica is None:  # it crashed: not all may be on its disk
            kept = set(read_journal(node.journal).bodies)
            bodies = tuple(body for body in bodies if body in kept)
        records = [decode_record(body) for body in bodies]
        self.entries += [record.block for record in records if isinstance(record, Held)]
        self.entries += [final.block for final in effects.finalized]
        self.entries += [told.block for told in self._released if isinstance(told, Proposal)]
        votes += [record.vote for record in records if isinstance(record, OwnVote)]
        stored = {block.hash for block in node.archive.blocks[-len(effects.finalized) :]}
        if effects.finalized and effects.finalized[-1].block.hash in stored:
            votes += signed(effects.finalized[-1].certificate)
        me = epoch.member_index(f"m{node.member}")
        # Of one step: what it says to one or another is in no order.
        for vote in sorted(votes, key=lambda vote: (vote.view, ORDER.index(vote.kind))):
            name = (node.number, vote.kind, vote.epoch, vote.view, vote.block)
            mine = (vote.member, vote.epoch) == (me, epoch.number)
            # One that needs nobody else decides all in one step, and says nothing.
            if mine and epoch.q > 1 and name not in self._known:
                self._known.add(name)
                self.entries.append((f"m{node.member}", epoch, vote))


def sent(told: Sequence[Message]) -> list[Vote]:
    """The votes in messages."""
    votes = [vote for message in told if isinstance(message, Votes) for vote in message.votes]
    return votes + [message.vote for message in told if isinstance(message, Proposal)]


def signed(certificate: Certificate) -> list[Vote]:
    """The votes of a certificate."""
    place = certificate.kind, certificate.epoch, certificate.view, certificate.block
    pairs = zip(certificate.members, certificate.signatures, strict=True)
    return [Vote(*place, member, signature) for member, signature in pairs]


@dataclass(frozen=True)
class Trace:
    """What was kept of one run."""

    liars: frozenset[str]
    entries: tuple[Entry, ...]

    def replay(self) -> Model:
        """Through the model's rules. Raises `Forbidden`."""
        model = Model(self.liars)
        for entry in self.entries:
            if isinstance(entry, Block):
                model.block(entry)
            else:
                model.vote(*entry)
        return model

    def changed(self, change: Callable[[int, Entry], Sequence[Entry]]) -> Trace:
        """With some entries left out, or others in their place."""
        kept = [new for at, entry in enumerate(self.entries) for new in change(at, entry)]
        return Trace(self.liars, tuple(kept))


def traced(seed: int, rules: type[VoterRules] | None = None, mix: Faults | None = None) -> Trace:
    world = TracedWorld(seed, mix or of_seed(seed), rules)
    with suppress(Violation):  # of a core without a rule: so far it came
        world.run()
    return Trace(world.liars, tuple(world.entries))


def first(trace: Trace, kind: Kind) -> tuple[int, tuple[str, Epoch, Vote]]:
    """The first vote of a kind by somebody honest, and where it stands."""
    for at, entry in enumerate(trace.entries):
        if not isinstance(entry, Block) and entry[2].kind is kind and entry[0] not in trace.liars:
            return at, entry
    raise AssertionError(f"no {kind.name} in this run")


@pytest.fixture(scope="module")
def trace() -> Trace:
    """One that the model allows, with votes of every kind."""
    found = traced(SEED_WITH_ALL)
    found.replay()
    return found


def test_every_vote_of_simulated_runs_is_one_that_the_model_allows() -> None:
    models = [traced(seed).replay() for seed in SEEDS]
    assert sum(model.votes for model in models) > 1_000
    assert sum(len(model.final) for model in models) > 100
    assert max(len(model.epochs) for model in models) > 2


def leaves_the_model(seed: int, rules: type[VoterRules] | None, mix: Faults, rule: str) -> bool:
    try:
        traced(seed, rules, mix).replay()
    except Forbidden as error:
        return str(error).startswith(rule)
    return False


@pytest.mark.parametrize("name", WITHOUT)
def test_a_core_without_a_rule_leaves_the_model_and_only_then(name: str) -> None:
    known, mix, rule = WITHOUT[name]
    seeds = (known, *range(MOST_SEEDS))
    seed = next((s for s in seeds if leaves_the_model(s, MUTANTS[name], mix, rule)), None)
    assert seed is not None, "look for better faults"
    traced(seed, None, mix).replay()


def other_block(entry: tuple[str, Epoch, Vote]) -> tuple[str, Epoch, Vote]:
    who, epoch, vote = entry
    return who, epoch, replace(vote, block=bytes(range(32)))


@pytest.mark.parametrize(
    ("kind", "change", "rule"),
    [
        (NOTARIZE, lambda entry: [entry, entry], "one notarize per view"),
        (NULLIFY, lambda entry: [entry, entry], "one nullify per view"),
        (FINALIZE, lambda entry: [entry, entry], "one finalize per view"),
        (NOTARIZE, lambda entry: [other_block(entry)], "holds it"),
        (FINALIZE, lambda entry: [other_block(entry)], "without a notarization"),
    ],
)
def test_a_trace_with_another_vote_is_noticed(
    trace: Trace, kind: Kind, change: Callable[[Any], Sequence[Entry]], rule: str
) -> None:
    at, _ = first(trace, kind)
    with pytest.raises(Forbidden, match=rule):
        trace.changed(lambda i, entry: change(entry) if i == at else [entry]).replay()


def certificates(trace: Trace, kind: Kind) -> list[tuple[Kind, int, bytes]]:
    """What blocks of the trace show to be certified: their parents, and the views they skip."""
    whys = [entry.justification for entry in trace.entries if isinstance(entry, Block)]
    shown = [each for why in whys for each in (*why.skips, why.parent) if each is not None]
    return [(each.kind, each.view, each.block) for each in shown if each.kind is kind]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (NOTARIZE, "without a notarization|certified parent"),
        (NULLIFY, "skipped views|the member's view"),
    ],
)
def test_a_trace_without_the_votes_of_a_certificate_is_noticed(
    trace: Trace, kind: Kind, rule: str
) -> None:
    gone = certificates(trace, kind)[0]

    def leave_out(_: int, entry: Entry) -> list[Entry]:
        if isinstance(entry, Block) or (entry[2].kind, entry[2].view, entry[2].block) != gone:
            return [entry]
        return []

    with pytest.raises(Forbidden, match=rule):
        trace.changed(leave_out).replay()
