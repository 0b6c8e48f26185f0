"""From one epoch to the next, in place: the memory of a member is built anew, as at a restart.

The step that makes an epoch's last block final is the last of that epoch. The next one begins with
a core of the new members that stands on that block: no vote, certificate or unfinal block of the
old epoch is in it, so voting never sees two sets of members. What passes over: entries that wait,
evidence, who is connected, what the journal holds of later epochs.

Invariants:
- Nobody votes in a new epoch before q - 1 of its members showed what they hold of it: a restored
  backup that comes in through an old epoch is noticed in the new one too.
- A node whose organization takes part no more keeps nothing that waits for others.
- A vote that a member forgot binds its key, not its place: another key in the new epoch cures it.

Left to others: when an epoch ends (core), how a crash is survived (restart).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilth_ledger import restart
from tilth_ledger.ballot import VoterRules
from tilth_ledger.block_tree import BlockTree, Tip
from tilth_ledger.core import Core
from tilth_ledger.effects import Archive, Executor, Keyring
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import Refused, TilthError
from tilth_ledger.genesis import Genesis
from tilth_ledger.limits import Limits
from tilth_ledger.pacemaker import Pacemaker
from tilth_ledger.votes import VoteTable


@dataclass(frozen=True, slots=True)
class Standing:
    """What is the same in every epoch."""

    genesis: Genesis
    organization: str
    keyring: Keyring
    executor: Executor
    archive: Archive
    rules: VoterRules

    def core(self, epoch: Epoch, tip: Tip) -> Core:
        """A memory that knows the final tip only."""
        names = [each.organization for each in epoch.everyone()]
        here = self.organization in names
        me = names.index(self.organization) if here else len(names)
        votes = me < len(epoch.members)
        limits = Limits.of_genesis(self.genesis.limits)
        return Core(
            epoch=epoch,
            me=me,
            signer=self.keyring(epoch.members[me].keys.vote) if votes else None,
            executor=self.executor,
            archive=self.archive,
            rules=self.rules,
            limits=limits,
            tree=BlockTree(self.executor, tip, limits, epoch.number),
            table=VoteTable(epoch),
            pace=Pacemaker(me, len(epoch.members), epoch.q, self.genesis.delta_ms),
        )

    def successor(self, old: Core) -> Core:
        """The memory that begins the epoch after the one that ended with the final tip."""
        tip = old.tree.tip
        membership = self.executor.membership(tip.state)
        epoch = Epoch.starting(membership, old.epoch.net, tip.hash, tip.view, tip.height)
        core = self.core(epoch, tip.without_certificate())
        core.now, core.clock = old.now, old.clock
        core.view = tip.view + 1
        core.pool = old.pool
        core.promised = old.promised
        if core.signer is not None and core.signer.public in old.epoch.voters:
            core.blank = old.blank  # another key has signed nothing yet
        core.journal_bytes, core.compacted_bytes = old.journal_bytes, old.compacted_bytes
        core.applied = True
        core.faults = old.faults
        if not core.is_stranger:
            core.docket = old.docket
            for nonce in old.barriers.of(old.me):  # the others repeat theirs
                core.barriers.add(nonce, core.me)
        restart.resume(core, [*old.later, *([old.forgotten] if old.forgotten else [])])
        _connect(core, old)
        return core


def turn_away(core: Core) -> tuple[tuple[str, TilthError], ...]:
    """Entries that nobody will take from an organization that takes part no more."""
    if not core.is_stranger:
        return ()
    refused = tuple((name, refusal()) for name in core.pool if core.pool.is_local(name))
    core.pool.drop(list(core.pool))
    return refused


def refusal() -> Refused:
    """What the submitter of an entry is told by a node that the ledger does not list."""
    return Refused(
        "M1",
        "the ledger does not list this node's organization",
        found="no such member or follower",
        expected="one that the members admitted",
        remedy="Ask a member to admit it: tilth member propose --admit member.json",
    )


def report(core: Core) -> None:
    """Say why this node does not vote, if the operator can do something about it."""
    number = core.epoch.number
    core.alarm_forgotten()
    if core.lacks_rules:
        core.alarm(
            "rules",
            f"epoch {number} follows rules_version {core.epoch.rules_version}, which this release"
            " does not have: it neither votes nor follows. Install a release that has it",
        )
    elif core.is_stranger:
        core.alarm(
            "unlisted",
            f"epoch {number} does not list this organization: it takes no part. Its members removed"
            " it, or admit it later. Ask one of them: tilth member list",
        )
    elif not core.follows and core.signer is None:
        core.alarm(
            "keys",
            f"this node does not hold the vote key that epoch {number} lists for it, so it does not"
            " vote: keys/member.seed is another one, or damaged. Put it back from its backup, or"
            " make a new one: tilth node rotate, then tilth member rotate",
        )


def _connect(core: Core, old: Core) -> None:
    """Connections stay; the places of those at their ends may be others."""
    names = [each.organization for each in old.epoch.everyone()]
    standing = {names[party] for party in old.linked}
    for party, each in enumerate(core.epoch.everyone()):
        if each.organization not in standing or party == core.me:
            continue
        core.linked.add(party)
        if party < len(core.epoch.members):
            core.connected.add(party)
            core.pace.connected(party)
        elif not core.follows:
            core.followers.add(party)
