"""The rules of every version that a ledger may have followed; none is ever taken out or changed.

Invariants:
- What an entry may look like and what it does are of one version: the one in force where it stands.
  A form that only later rules know is no entry before them, whatever a release can read.
- Which version is in force follows from the epoch: genesis states the first, an epoch's end the
  next.

Left to others: when a version begins (`rules_members`), who judges by it (`execution`, `forms`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tilth_ledger import operations, state
from tilth_ledger.context import Context, Op


@dataclass(frozen=True, slots=True)
class Rules:
    """One version: what operations look like, and what they do."""

    check: Callable[[Op], object]  # `InvalidInput` for an operation of another form
    apply: Callable[[Context, Op], None]  # rows and system leaves; `Refused` names the rule


RULES: Mapping[int, Rules] = MappingProxyType({1: Rules(operations.check, state.apply)})
