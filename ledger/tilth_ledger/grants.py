"""The algebra of grants: who may, as a value (rule P1).

A grant is `None` for everybody or a frozen set of organizations. In rows it is `"public"` or a
sorted list.

Invariants:
- `meet` never gives more than either side; `join` never less.
- What is written to a row is sorted: the order of a set never reaches the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable

Grant = frozenset[str] | None
PUBLIC: Grant = None
Stated = str | list[str]  # as it stands in an operation or a row


def read(stated: Stated) -> Grant:
    """A grant as stated; words other than "public" are the caller's to resolve."""
    return PUBLIC if isinstance(stated, str) else frozenset(stated)


def write(grant: Grant) -> Stated:
    return "public" if grant is None else sorted(grant)


def allows(grant: Grant, organization: str) -> bool:
    return grant is None or organization in grant


def meet(first: Grant, second: Grant) -> Grant:
    """Who is in both."""
    if first is None:
        return second
    return first if second is None else first & second


def join(first: Grant, second: Grant) -> Grant:
    """Who is in either."""
    return None if first is None or second is None else first | second


def meet_all(grants: Iterable[Grant]) -> Grant:
    result: Grant = PUBLIC
    for grant in grants:
        result = meet(result, grant)
    return result


def show(grant: Grant) -> str:
    """For messages."""
    if grant is None:
        return "everybody"
    return ", ".join(sorted(grant)) or "nobody"
