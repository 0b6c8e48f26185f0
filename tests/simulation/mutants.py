"""The rules of voting with one left out: each must be caught by the suite."""

from __future__ import annotations

from tilth_ledger.ballot import Ballot, VoterRules
from tilth_ledger.blocks import Header, Justification
from tilth_ledger.genesis import Genesis


class NoParentCertificate(VoterRules):
    """A block may stand on a block that nobody certified."""

    def parent_is_certified(self, header: Header, why: Justification, genesis: Genesis) -> bool:
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


MUTANTS: dict[str, type[VoterRules]] = {
    "parent certificate": NoParentCertificate,
    "skip proof": NoSkipProof,
    "one notarize per view": NotarizesTwice,
    "no finalize after nullify": FinalizesAfterNullify,
    "no nullify after finalize": NullifiesAfterFinalize,
}
