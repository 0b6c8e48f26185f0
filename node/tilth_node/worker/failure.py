"""How an attempt ends badly: with a reason of the ledger's closed list, or without a word.

The words of a `Failed` go into the log, which has a right of its own; the ledger hears the reason.
"""

from tilth_ledger.errors import Refused, TilthError


class Failed(TilthError):
    """The attempt failed for good; `reason` is one of `tilth_ledger.shapes.FAILURE_REASONS`."""

    def __init__(self, reason: str, message: str, *, found: object = "", log: bytes = b"") -> None:
        super().__init__(message, found=found)
        self.reason = reason
        self.log = log


class Dropped(TilthError):
    """The ledger has decided otherwise meanwhile: there is nothing to say about this attempt."""


# Refused by one of these, `doing` came too late or twice: the ledger has decided already.
MOVED_ON = frozenset(("L1", "L3", "L5", "A2"))


def reason_of(refusal: Refused) -> str:
    """The reason of the closed list for a task that may not begin."""
    if refusal.rule != "P5":
        return "rights"
    return "approval_expired" if "expired" in refusal.found else "denied"
