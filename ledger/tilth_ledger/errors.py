"""The one error tree of Tilth.

Invariants:
- A message says what happened; `found`, `expected` and `remedy` hold the facts, and `str()` prints
  them all.
- Whose fault it is, is the class: the caller's bytes (`InvalidInput`), a rule (`Refused`), another
  node (`PeerFault`), nobody's for now (`Unavailable`), or nobody can go on (`Fatal`).
- An error crosses the wire as `as_dict()` and comes back as the same class through `from_dict()`.

Left to others: gRPC status codes (rpc), exit codes (cli).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class TilthError(Exception):
    """Everything Tilth raises on purpose."""

    kind: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, found: object = "", expected: object = "", remedy: object = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.found = str(found)
        self.expected = str(expected)
        self.remedy = str(remedy)

    def __str__(self) -> str:
        return _sentence(self.message, self.found, self.expected, self.remedy)

    def as_dict(self) -> dict[str, str]:
        """The facts as strings, empty ones left out; `kind` names the class."""
        facts = {
            "kind": self.kind,
            "rule": getattr(self, "rule", ""),
            "message": self.message,
            "found": self.found,
            "expected": self.expected,
            "remedy": self.remedy,
        }
        return {name: value for name, value in facts.items() if value}


class InvalidInput(TilthError):
    """Bytes or arguments that are malformed, whatever the state of the ledger."""

    kind = "invalid"


class Refused(TilthError):
    """A well-formed request that a rule forbids; `rule` is the rule's id, for example "R1"."""

    kind = "refused"

    def __init__(
        self,
        rule: str,
        message: str,
        *,
        found: object = "",
        expected: object = "",
        remedy: object = "",
    ) -> None:
        super().__init__(message, found=found, expected=expected, remedy=remedy)
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.rule}: {super().__str__()}"


class PeerFault(TilthError):
    """Another node broke the protocol or did not answer."""

    kind = "peer"


class Unavailable(TilthError):
    """A node stops, is away or was late: the same bytes may be sent again."""

    kind = "unavailable"


class TooMany(Unavailable):
    """Somebody asks more often than it may: later the same is answered."""

    kind = "too many"


class SecondInstance(Unavailable):
    """Another process already does the part of this one, with the same keys."""

    kind = "second instance"


class Fatal(TilthError):
    """This process cannot go on safely and must stop."""

    kind = "fatal"


_TREE = (TilthError, InvalidInput, PeerFault, Unavailable, TooMany, SecondInstance, Fatal)
_CLASSES: Mapping[str, type[TilthError]] = {c.kind: c for c in _TREE}


def from_dict(facts: Mapping[str, str]) -> TilthError:
    """The error that `as_dict` described; an unknown kind becomes a plain `TilthError`."""
    message = str(facts.get("message", "unknown error"))
    found, expected, remedy = (str(facts.get(k, "")) for k in ("found", "expected", "remedy"))
    if facts.get("kind") == Refused.kind:
        rule = str(facts.get("rule", "?"))
        return Refused(rule, message, found=found, expected=expected, remedy=remedy)
    error = _CLASSES.get(str(facts.get("kind")), TilthError)
    return error(message, found=found, expected=expected, remedy=remedy)


def _sentence(message: str, found: str, expected: str, remedy: str) -> str:
    parts = [message]
    parts += [f"found {found}"] if found else []
    parts += [f"expected {expected}"] if expected else []
    text = "; ".join(parts)
    return f"{text}. {remedy}" if remedy else text
