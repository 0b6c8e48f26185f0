"""What a rule sees while one entry executes: rows, ledger time, the author, and where to write.

Invariants:
- Everything a rule decides follows from this object and the operation: no clock, no order of a
  set, no float.
- A new asset's key belongs to the author's organization and was never used (A1, A2).

Left to others: overlays and all-or-nothing (`execution`), the rules (`rules_*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tilth_ledger.errors import Refused, TilthError
from tilth_ledger.limits import Limits
from tilth_ledger.permissions import Rights
from tilth_ledger.rows import Overlay, Row, RowView, parse_row, read_row

Op = Mapping[str, Any]

# What people call the kinds of rows.
NOUNS: Mapping[str, str] = {"sampleset": "sample set"}


@dataclass(slots=True)
class Context:
    """One entry under execution."""

    rows: Overlay
    limits: Limits
    net: str
    time_ms: int
    index: int  # of the entry's leaf
    entry: str  # its id
    author: str
    organization: str
    roles: frozenset[str]
    # Type and statement of the system leaves that follow the entry's.
    derived: list[tuple[int, Row]] = field(default_factory=list)
    epoch_end: Row | None = None  # what the leaf that ends this epoch states
    problems: list[TilthError] | None = None  # a dry run collects here instead of stopping
    _rights: Rights | None = None

    def begin(self) -> None:
        """Before an operation: what earlier ones granted or withdrew counts."""
        self._rights = None

    @property
    def rights(self) -> Rights:
        """Who may do what; answers are remembered until the next operation."""
        if self._rights is None:
            self._rights = Rights(self.rows)
        return self._rights

    def derive(self, kind: int, statement: Row) -> None:
        """A system leaf of this type follows the entry, at `next_index`."""
        self.derived.append((kind, statement))

    @property
    def next_index(self) -> int:
        """Where the next system leaf will stand."""
        return self.index + 1 + len(self.derived)

    def need(self, kind: str, key: str, rule: str = "A3") -> Row:
        """The row of an asset; refused when there is none."""
        return parse_row(self._stored(kind, key, rule))

    def _stored(self, kind: str, key: str, rule: str) -> bytes:
        value = self.rows.get_bytes(f"{kind}/{key}")
        if value is None:
            noun = NOUNS.get(kind, kind)
            raise Refused(
                rule,
                f"there is no {noun} with this key",
                found=key,
                expected=f"the key of a registered {noun}",
                remedy=f"Correct the key, or register the {noun} first.",
            )
        return value

    def usable(self, kind: str, key: str) -> RowView:
        """The row, for reading, of an asset that was not withdrawn (A3, A4)."""
        row = read_row(self._stored(kind, key, "A3"))
        if row["status"] == "withdrawn":
            noun = NOUNS.get(kind, kind)
            raise Refused(
                "A4",
                f"the {noun} was withdrawn by its owner",
                found=f"{row.get('name', key)} ({key})",
                expected=f"{noun} in use",
                remedy=f"Use another {noun}; a withdrawn one stays only as a record.",
            )
        return row

    def takes_part(self, organization: str) -> bool:
        """Whether an organization was not removed (M7)."""
        return not (self.rows.get(f"organization/{organization}") or {}).get("removed")

    def own(self, kind: str, key: str) -> Row:
        """The row of an asset that belongs to the author's organization (A1)."""
        row = self.need(kind, key)
        self.check_owner(NOUNS.get(kind, kind), str(row["owner"]), key)
        return row

    def check_owner(self, noun: str, owner: str, key: str) -> None:
        if owner != self.organization:
            raise Refused(
                "A1",
                f"only its owner changes a {noun}",
                found=f"an entry of {self.organization} about {key}",
                expected=f"an entry of {owner}",
                remedy=f"Ask {owner} to do it.",
            )

    def add(self, kind: str, key: str, row: Row) -> None:
        """Write the row of a new asset (A1, A2)."""
        noun = NOUNS.get(kind, kind)
        self.check_key(noun, key)
        name = f"{kind}/{key}"
        if self.rows.get_bytes(name) is not None:
            raise Refused(
                "A2",
                f"this key already names another {noun}",
                found=key,
                expected="a key that was never used",
                remedy="Choose a new random key.",
            )
        self.rows.put(name, row)

    def check_key(self, noun: str, key: str) -> None:
        """Rule A1: nobody squats a key of another organization."""
        if key.partition("/")[0] != self.organization:
            raise Refused(
                "A1",
                f"the key of a new {noun} must belong to the author's organization",
                found=key,
                expected=f"{self.organization}/<32 hex>",
                remedy="Choose a key under your own organization.",
            )

    def check_organizations(self, names: list[str], what: str) -> None:
        """Rule P1: who is named in a grant exists."""
        for name in names:
            if self.rows.get_bytes(f"organization/{name}") is None:
                raise Refused(
                    "P1",
                    f"{what} names an organization that does not exist",
                    found=name,
                    expected="organizations of this consortium",
                    remedy="Correct the name; `tilth status` lists the organizations.",
                )

    def stated_grant(self, stated: str | list[str], what: str) -> str | list[str]:
        """Rule P1: a grant as it goes into a row: the word, or existing organizations sorted,
        the owner among them."""
        if isinstance(stated, str):
            return stated
        self.check_organizations(stated, what)
        return sorted({*stated, self.organization})


def refuse(rule: str, message: str, *, found: object, expected: object, remedy: str) -> NoReturn:
    raise Refused(rule, message, found=found, expected=expected, remedy=remedy)
