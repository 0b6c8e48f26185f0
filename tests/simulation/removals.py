"""Rules and promises of the real code, each taken out of its source, and what must notice it.

    python tests/simulation/removals.py            # finds a killing seed for each that needs one

A removal names a function and the words in it that are changed: when the code moves on and the
words are not there any more, the test says so. It is undone in any case. The voting rules that
have a class of their own are in `mutants.py`.
"""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ledger"), str(HERE.parent.parent / "ledger")]

from checker import Violation  # noqa: E402
from mutants import LIAR, TWINS  # noqa: E402
from world import World  # noqa: E402

from tilth_ledger.errors import TilthError  # noqa: E402

CAUGHT = (Violation, AssertionError, TilthError, ValueError, IndexError)

CRASHES = replace(LIAR, traitors=0, liars=False, crash=0.05, cosigns=True, compact_bytes=600)
ALONE = replace(CRASHES, n=1, q=1, cosigns=False)
FULL = replace(CRASHES, full_every_ms=500)
READERS = replace(LIAR, traitors=0, liars=False, crash=0.0, faulty_ms=30_000)
MIXES = {
    "crashes": CRASHES,
    "alone": ALONE,
    "full": FULL,
    "readers": READERS,
    "twins": TWINS,
    "liar": LIAR,
    "garbler": replace(LIAR, manner="garbles"),
}


@dataclass(frozen=True)
class Removal:
    """One rule less: in `place`, `old` becomes `new`. It is noticed by a seed with a mix of
    faults, or by a test that is named."""

    place: str  # module:qualified name
    old: str
    new: str
    by: str  # a mix of MIXES, or module.test
    seed: int = 0

    def run(self) -> None:
        """What passes with the rule, and must fail without it."""
        if self.by in MIXES:
            World(self.seed, MIXES[self.by]).run()
        else:
            scenario(self.by)()


def unrecorded(kind: str) -> tuple[str, str, str]:
    kept = f'not (isinstance(record, OwnVote) and record.vote.kind.name == "{kind}")'
    return "core:Core.persist", "if not self.follows:", f"if not self.follows and {kept}:"


DURABLE = "object.__setattr__(effects, 'persist', effects.persist[:1])"
LOST = "object.__setattr__(effects, 'persist', ()) or object.__setattr__(effects, 'compact', None)"

REMOVALS: dict[str, Removal] = {
    "F1 a notarization is not recorded": Removal(*unrecorded("NOTARIZE"), "crashes"),
    "F2 a finalize vote is not recorded": Removal(*unrecorded("FINALIZE"), "crashes", seed=1),
    "F3 a nullification is not recorded": Removal(*unrecorded("NULLIFY"), "crashes"),
    "F4 leaves and state are two transactions": Removal(
        "number_ledger:MemoryArchive.apply",
        "self.state = final.state",
        "self.state = final.state if final.block.header.height % 5 else self.state",
        "crashes",
        seed=1,
    ),
    "F5 the newest cosigned head is not recorded": Removal(
        "disks:Cosigner.restart", "Schedule(self.newest)", "Schedule(0)", "crashes"
    ),
    "F6 a compacted journal replaces the old one before it is whole": Removal(
        "world:World._carry_out",
        "frame(effects.compact, 0), len(effects.compact)",
        "frame(effects.compact, 0)[: 60 if point in (3, 4) else None], len(effects.compact)",
        "crashes",
        seed=1,
    ),
    "F7 a failed write is passed over": Removal(
        "machines:Machines.disk_fails", "return True", f"return bool({LOST})", "full"
    ),
    "F8 a store that holds less than was promised votes": Removal(
        "core:Core.may_vote",
        "and self.tree.tip.height >= self.promised.height",
        "",
        "killers.a_store_that_lost_blocks_does_not_vote",
    ),
    "F9 one sync covers one vote only": Removal(
        "world:World._carry_out",
        "written = frame(effects.persist, node.sequence)",
        f"{DURABLE}; written = frame(effects.persist, node.sequence)",
        "crashes",
    ),
    "votes of non-members count": Removal(
        "blocks:_vote_key",
        "if not 0 <= member < len(epoch.members):\n"
        '        raise InvalidInput("vote is of no member", found=f"member {member}")\n'
        "    return epoch.members[member].keys.vote",
        "return epoch.everyone()[member].keys.vote",
        "killers.a_vote_of_a_follower_is_none",
    ),
    "votes of another epoch count": Removal(
        "blocks:_check_epoch",
        "if found != epoch.number:",
        "if False:",
        "killers.a_certificate_of_another_epoch_is_none",
    ),
    "leaves are stored in another order": Removal(
        "number_ledger:MemoryArchive.apply",
        "self.blocks.append(final.block)",
        "self.blocks.append(replace(final.block, leaves=final.block.leaves[::-1]))",
        "readers",
    ),
    "a Merkle proof may have any length": Removal(
        "merkle:_steps",
        "len(proof) != length or ",
        "",
        "killers.a_proof_that_is_too_long_is_none",
    ),
    "a certificate may name a member twice": Removal(
        "blocks:Certificate.check_form",
        "a >= b",
        "a > b",
        "killers.a_member_twice_is_no_quorum",
    ),
    "a certificate may have too few votes": Removal(
        "blocks:Certificate.check_form",
        "if len(self.members) < epoch.q or ",
        "if ",
        "killers.one_vote_is_no_certificate",
    ),
    "checked leaves are known by their id, not by all their bytes": Removal(
        "forms:Forms.look_at",
        "digest = sha256(leaf).digest()",
        "digest = Leaf.decode(leaf).id.encode()",
        "killers.a_leaf_with_another_signature_is_another_leaf",
    ),
    "a finalize vote is a cosignature": Removal(
        "machines:Machines.cosign",
        "self._sign(node)",
        "[node.cosigner.schedule.want(__import__('tilth_ledger.cosigning').cosigning.Head.of("
        "c.block.header)) for c in ("
        "list(node.replica._core.tree) if hasattr(node.replica, '_core') else ())"
        " if c.executed and (c.view, 3) in {(v, int(k)) for v, k in"
        " node.replica._core.ballot.votes}]; self._sign(node)",
        "crashes",
    ),
    "a member that forgot a vote goes on voting": Removal(
        "catch_up:_compare_with_record",
        "core.remember_forgotten(vote)",
        "pass",
        "test_replica_restart"
        ".test_a_restored_backup_is_noticed_by_the_vote_that_another_member_holds",
    ),
    "a leader's time has no bound": Removal(
        "voting:_vote_notarize",
        "not -MOST_BEHIND_MS <= ahead <= MOST_AHEAD_MS",
        "False",
        "test_replica.test_a_leader_with_a_clock_far_ahead_is_not_followed",
    ),
    "a skip proof may be of another view": Removal(
        "ballot:VoterRules.gaps_are_skipped",
        "and skip.view == first + offset",
        "",
        "killers.a_skip_proof_of_another_view_is_none",
    ),
    "evidence that was seen is dropped": Removal(
        "proposing:_evidence",
        "waiting = [each for each in core.docket if not core.executor.holds(state, each)]",
        "waiting: list = []",
        "twins",
    ),
    "a barrier is answered from the tip": Removal(
        "clients:Clients._read",
        "self._world.hand(node, Asked(nonce))",
        "__import__('killers').answer_from_tip(self._world.checker, node, nonce)",
        "readers",
        seed=1,
    ),
    "cosigned sizes may shrink": Removal(
        "cosigning:Schedule.want", "if head.size > self.newest:", "if True:", "killers.sizes_grow"
    ),
    "leaves may follow the end of an epoch": Removal(
        "block_tree:BlockTree._execute",
        "if candidate.block.leaves and self.ends_epoch(state):",
        "if False:",
        "test_replica_epochs.test_a_block_with_leaves_above_the_end_of_an_epoch_is_refused",
    ),
    "an epoch ends before its last block is final": Removal(
        "voting:_finalize_blocks", "core.table.finalizations(", "core.table.notarized(", "liar"
    ),
    "own votes of before a crash are not counted again": Removal(
        "restart:_take",
        "_take_own_certificate(core, core.table.count(vote))",
        "pass",
        "killers.votes_of_before_a_crash_count",
    ),
    "garbled bodies are kept, a liar garbles them": Removal(
        "block_tree:BlockTree.drop_garbled", "if candidate.garbled", "if False", "garbler", seed=5
    ),
    "who has nothing to repeat repeats itself": Removal(
        "replica:Replica._note_reasons",
        "stuck=work or catch_up.is_stuck(core, self._sync)",
        "stuck=True",
        "crashes",
    ),
    "another's barrier is work for ever": Removal(
        "barriers:Barriers.lapse",
        "if self._retries[nonce] >= MOST_RETRIES:",
        "if False:",
        "test_replica_barriers"
        ".test_a_nonce_that_its_asker_tells_one_member_only_does_not_keep_it_talking",
    ),
    "votes of any view are kept": Removal(
        "replica:Replica._hear_vote",
        "if vote.view > core.view + 1:",
        "if False:",
        "killers.votes_of_far_views_fill_no_memory",
    ),
    "the rows of a snapshot are not summed": Removal(
        "snapshot_rows:Taken.check",
        "if found != digest:",
        "if False:",
        "killers.a_changed_row_is_of_no_snapshot",
    ),
    "a snapshot's block needs no proof that it is final": Removal(
        "tilth_ledger.snapshots:check_final",
        "certificate.verify(epoch)",
        "pass",
        "killers.a_forged_snapshot_is_none",
    ),
    "blocks of the past need not link": Removal(
        "history:Stretch.check",
        "if (past.block.hash, header.height) != (parent, height):",
        "if False:",
        "killers.a_past_that_does_not_link_is_none",
    ),
    "garbled bodies are kept": Removal(
        "block_tree:BlockTree.drop_garbled",
        "if candidate.garbled",
        "if False",
        "test_replica_garbled.test_a_leader_that_garbles_a_body_for_one_member_does_not_stop_it",
    ),
}


@contextmanager
def removed(removal: Removal) -> Iterator[None]:
    """The code without one rule. Raises AssertionError if the words are not there once."""
    function = _function(removal.place)
    source = textwrap.dedent(inspect.getsource(function))
    times = source.count(removal.old)
    assert times == 1, f"{removal.place} holds {removal.old!r} {times} times: name it anew"
    source = source.replace(removal.old, removal.new)
    lines = source.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def "))
    code = compile(
        "\n".join(lines[start:]), removal.place, "exec", __future__.annotations.compiler_flag
    )
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)  # our own words, above
    before = function.__code__
    function.__code__ = made[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before


def _function(place: str) -> FunctionType:
    module, _, path = place.partition(":")
    whole = "." in module or (HERE / f"{module}.py").exists()
    found: Any = import_module(module if whole else f"tilth_ledger.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = found.fget if isinstance(found, property) else found
    found = found.__func__ if isinstance(found, staticmethod) else found
    assert isinstance(found, FunctionType), place
    return found


def scenario(name: str) -> Callable[[], None]:
    module, _, function = name.partition(".")
    found = import_module(module)
    return getattr(found, function)  # type: ignore[no-any-return]


def is_caught(removal: Removal) -> bool:
    try:
        with removed(removal):
            removal.run()
    except CAUGHT:
        return True
    return False


def main() -> int:
    missed = 0
    for name, removal in REMOVALS.items():
        seeds = range(60) if removal.by in MIXES else range(1)
        tries = (replace(removal, seed=seed) for seed in seeds)
        found = next((each.seed for each in tries if is_caught(each)), None)
        missed += found is None
        print(f"{name}: {'MISSED' if found is None else found} ({removal.by})", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
