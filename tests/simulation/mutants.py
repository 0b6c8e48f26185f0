"""The rules of voting with one left out: each must be caught by the suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from faults import Faults

from tilth_ledger import block_tree
from tilth_ledger.ballot import Ballot, VoterRules
from tilth_ledger.blocks import Header, Justification
from tilth_ledger.epochs import Epoch


class NoParentCertificate(VoterRules):
    """A block may stand on a block that nobody certified."""

    def parent_is_certified(self, header: Header, why: Justification, epoch: Epoch) -> bool:
        return True


class NoSkipProof(VoterRules):
    """A block may skip views that are not proven to be over."""

    def gaps_are_skipped(self, header: Header, why: Justification) -> bool:
        return True


class NotarizesTwice(VoterRules):
    """A member may notarize two blocks of one view."""

    def notarizes_once(self, mine: Ballot, view: int, block: bytes) -> bool:
        return True


class FinalizesAfterNullify(VoterRules):
    """A member may finalize in a view that it nullified."""

    def finalizes_unnullified(self, mine: Ballot, view: int) -> bool:
        return True


class NullifiesAfterFinalize(VoterRules):
    """A member may nullify a view in which it finalized."""

    def nullifies_unfinalized(self, mine: Ballot, view: int) -> bool:
        return True


@contextmanager
def unchecked(what: str) -> Iterator[None]:
    """A block may state another outcome than it has: in its size, root or state (V1)."""
    checked = block_tree._expect

    def expect(name: str, found: object, expected: object) -> None:
        if name != what:
            checked(name, found, expected)

    block_tree._expect = expect
    try:
        yield
    finally:
        block_tree._expect = checked


MUTANTS: dict[str, type[VoterRules]] = {
    "parent certificate": NoParentCertificate,
    "skip proof": NoSkipProof,
    "one notarize per view": NotarizesTwice,
    "no finalize after nullify": FinalizesAfterNullify,
    "no nullify after finalize": NullifiesAfterFinalize,
}
OUTCOMES = ("size", "root", "state")  # what a header states of its block's outcome

# One of four lies (or is two), messages are lost and late, nodes crash: made to hurt.
LIAR = Faults(
    n=4,
    q=3,
    cheap_keys=True,
    wire=False,
    delta_ms=100,
    delay=(1, 40),
    slow_chance=0.1,
    slow_ms=3_000,
    loss=0.2,
    duplicate=0.1,
    fifo=False,
    partition_every_ms=0,
    crash=0.01,
    down_ms=(1, 50),
    torn=True,
    batch_ms=0,
    skew_ms=0,
    leaves=20,
    gap_ms=200,
    conditional=0.0,
    faulty_ms=10_000,
    traitors=1,
    liars=True,
    reset_ms=0,
    compact_bytes=4_000,
)
TWINS = replace(LIAR, liars=False, crash=0.05)
