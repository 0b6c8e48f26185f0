"""What can go wrong on the user's side of the wire, in one tree with the ledger's own errors.

    TilthError
      InvalidInput   what you passed is malformed
      Refused        well-formed, but a rule forbids it: `.rule` names the rule
      Unreachable    the node did not answer; nothing was sent that could have had an effect
      Unknown        the node was asked and did not answer in time: the outcome is unknown, and
                     sending the same bytes again is safe (rule A2: same entry, same receipt)

Facts are attributes (`found`, `expected`, `remedy`); `str()` is one readable text.
"""

from tilth_ledger.errors import InvalidInput, Refused, TilthError

__all__ = ["InvalidInput", "Refused", "TilthError", "Unknown", "Unreachable"]


class Unreachable(TilthError):
    """No connection to the node: wrong address, not running, or not who it should be."""


class Unknown(TilthError):
    """The answer did not come in time; the outcome is unknown until the same bytes are resent."""
