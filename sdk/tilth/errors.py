"""What can go wrong on the user's side of the wire, in one tree with the ledger's own errors.

    TilthError
      InvalidInput   what you passed is malformed
      Refused        well-formed, but a rule forbids it: `.rule` names the rule
      Unreachable    no connection to the node, although it was tried for some seconds
      Unknown        the node was asked and did not answer in time: the outcome is unknown

After either, asking again is safe: reading changes nothing, and what the SDK registers (a plan, an
algo, samples, sets) it looks for first and registers once.

Facts are attributes (`found`, `expected`, `remedy`); `str()` is one readable text.
"""

from tilth_ledger.errors import InvalidInput, Refused, TilthError

__all__ = ["InvalidInput", "Refused", "TilthError", "Unknown", "Unreachable"]


class Unreachable(TilthError):
    """No connection to the node: wrong address, not running, or not who it should be."""


class Unknown(TilthError):
    """The answer did not come in time; the outcome is unknown until the same bytes are resent."""
