"""The small closed type language in which operations are described.

A type is a frozen object with one method, `check(value, path)`, that returns nothing or raises
`InvalidInput` saying where, what was found, what was expected and what to do. Types hold no
state and know no rows: they judge shape, never rights. A path is put into words when something is
refused, and costs a pair until then.

Invariants:
- Closed: a `Record` refuses every field it does not name.
- `bool` is never taken for an integer; floats and nulls do not exist.
- No pattern comes from a user; the patterns used here are linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from tilth_ledger import canonical, limits
from tilth_ledger.errors import InvalidInput

SAFE_INTEGER = 2**53 - 1
SLUG = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"


# Text, or a path and the field's name or the item's index below it.
Path = str | tuple["Path", str | int]


class Type(Protocol):
    """What every type answers."""

    def check(self, value: Any, path: Path) -> None: ...

    def describe(self) -> str: ...


def shown(value: Any) -> str:
    """A found value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def words(path: Path) -> str:
    """A path as people read it: `plan.tasks.tasks[3].key`."""
    if isinstance(path, str):
        return path
    above, name = path
    return words(above) + (f".{name}" if isinstance(name, str) else f"[{name}]")


def refuse(path: Path, value: Any, expected: str, remedy: str = "") -> NoReturn:
    where = words(path)
    raise InvalidInput(
        f"The field {where} is not valid",
        found=shown(value),
        expected=expected,
        remedy=remedy or f"Correct {where} and sign the entry again.",
    )


def is_object(value: Any) -> bool:
    """Whether it is a mapping; asked of the abstract class only about what is no dict."""
    return type(value) is dict or isinstance(value, Mapping)


# Whether a text is surely right, where a type can say so without a path; and its whole check.
_Checks = tuple[Callable[[str], object] | None, Callable[[Any, Path], None]]


def _checks(kind: Type) -> _Checks:
    return getattr(kind, "fits", None), kind.check


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text of one exact form."""

    pattern: re.Pattern[str]
    meaning: str
    fits: Callable[[str], object] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fits", self.pattern.fullmatch)

    def check(self, value: Any, path: Path) -> None:
        if not isinstance(value, str) or not self.fits(value):
            refuse(path, value, self.meaning)

    def describe(self) -> str:
        return self.meaning


@dataclass(frozen=True, slots=True)
class Text:
    """Free text of bounded length, without control characters."""

    low: int
    high: int

    def check(self, value: Any, path: Path) -> None:
        if not isinstance(value, str) or not self.low <= len(value) <= self.high:
            refuse(path, value, self.describe())
        if not value.isprintable() and any(ord(c) < 32 and c not in "\n\t" for c in value):
            refuse(path, value, "text without control characters")

    def describe(self) -> str:
        return f"text of {self.low} to {self.high} characters"


@dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int = SAFE_INTEGER

    def check(self, value: Any, path: Path) -> None:
        if type(value) is not int or not self.low <= value <= self.high:
            refuse(path, value, self.describe())

    def describe(self) -> str:
        return f"an integer from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Boolean:
    def check(self, value: Any, path: Path) -> None:
        if type(value) is not bool:
            refuse(path, value, self.describe())

    def describe(self) -> str:
        return "true or false"


@dataclass(frozen=True, slots=True)
class Choice:
    values: tuple[str, ...]
    fits: Callable[[str], object] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fits", frozenset(self.values).__contains__)

    def check(self, value: Any, path: Path) -> None:
        if not isinstance(value, str) or value not in self.values:
            refuse(path, value, self.describe())

    def describe(self) -> str:
        return "one of " + ", ".join(self.values)


@dataclass(frozen=True, slots=True)
class Decimal:
    """A finite number as text: exact, the same on every machine."""

    def check(self, value: Any, path: Path) -> None:
        if not isinstance(value, str) or not DECIMAL_FORM.fullmatch(value):
            refuse(
                path,
                value,
                self.describe(),
                "A score that is not a finite number cannot be recorded: report the task as failed"
                ' with reason "score".'
                if words(path).endswith(".value")
                else "",
            )
        if sum(c.isdigit() for c in value) > limits.DECIMAL_DIGITS:
            refuse(path, value, self.describe())

    def describe(self) -> str:
        return (
            f"a finite decimal as text, at most {limits.DECIMAL_DIGITS} digits, 12 of them"
            ' after the point, such as "0.963889"'
        )


DECIMAL_FORM = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Type
    low: int
    high: int
    distinct: bool = True
    _checks: _Checks = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_checks", _checks(self.item))

    def check(self, value: Any, path: Path) -> None:
        if not isinstance(value, (list, tuple)) or not self.low <= len(value) <= self.high:
            found = f"{len(value)} items" if isinstance(value, (list, tuple)) else shown(value)
            where = words(path)
            raise InvalidInput(
                f"The field {where} is not valid",
                found=found,
                expected=self.describe(),
                remedy=f"Correct {where}; split a long list over several parts.",
            )
        fits, check = self._checks
        for index, item in enumerate(value):
            if fits is None or type(item) is not str or not fits(item):
                check(item, (path, index))
        if not self.distinct or len(value) < 2 or not isinstance(value[0], str):
            return
        if len({*value}) != len(value):
            repeated = next(v for i, v in enumerate(value) if v in value[:i])
            refuse(path, repeated, "no value twice")

    def describe(self) -> str:
        return f"a list of {self.low} to {self.high} items, each {self.item.describe()}"


@dataclass(frozen=True, slots=True)
class MapOf:
    key: Type
    value: Type
    high: int
    high_bytes: int = 0  # of keys and values together; 0: no such bound

    def check(self, value: Any, path: Path) -> None:
        if not is_object(value) or len(value) > self.high:
            refuse(path, value, self.describe())
        for name, item in value.items():
            self.key.check(name, f"the name {shown(name)} in {words(path)}")
            self.value.check(item, (path, name))
        if self.high_bytes:
            size = sum(len(str(k).encode()) + len(str(v).encode()) for k, v in value.items())
            if size > self.high_bytes:
                refuse(path, f"{size} bytes", f"at most {self.high_bytes} bytes in all")

    def describe(self) -> str:
        return f"an object of at most {self.high} fields, each {self.value.describe()}"


@dataclass(frozen=True, slots=True)
class Json:
    """Free JSON (an object), bounded by its canonical size."""

    high_bytes: int

    def check(self, value: Any, path: Path) -> None:
        if not is_object(value):
            refuse(path, value, self.describe())
        size = len(canonical.dumps(value))
        if size > self.high_bytes:
            refuse(path, f"{size} bytes", self.describe())

    def describe(self) -> str:
        return f"a JSON object of at most {self.high_bytes} bytes"


@dataclass(frozen=True, slots=True)
class Record:
    """An object with exactly these fields; the names in `optional` may be missing."""

    fields: Mapping[str, Type]
    optional: frozenset[str] = frozenset()
    required: frozenset[str] = field(init=False)
    _checks: dict[str, _Checks] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "required", frozenset(self.fields) - self.optional)
        checks = {name: _checks(each) for name, each in self.fields.items()}
        object.__setattr__(self, "_checks", checks)

    def check(self, value: Any, path: Path) -> None:
        if type(value) is not dict and not is_object(value):
            refuse(path, value, self.describe())
        known = self._checks.get
        for name, item in value.items():
            checks = known(name)
            if checks is None:
                raise InvalidInput(
                    f"{words(path)} has a field that does not exist",
                    found=shown(name),
                    expected=f"only {', '.join(sorted(self.fields))}",
                    remedy="Remove the field or correct its name.",
                )
            fits, check = checks
            if fits is None or type(item) is not str or not fits(item):
                check(item, (path, name))
        # As many known names as there are: none is missing.
        if len(value) != len(self._checks) and not self.required <= value.keys():
            missing = sorted(self.required - value.keys())
            raise InvalidInput(
                f"{words(path)} lacks a field",
                found=f"no {', '.join(missing)}",
                expected=f"the fields {', '.join(sorted(self.required))}",
                remedy=f"Add {', '.join(missing)}.",
            )

    def describe(self) -> str:
        return "an object with the fields " + ", ".join(sorted(self.fields))


@dataclass(frozen=True, slots=True)
class Either:
    """Text of the first form, or an object of the second."""

    text: Type
    record: Type

    def check(self, value: Any, path: Path) -> None:
        (self.record if is_object(value) else self.text).check(value, path)

    def describe(self) -> str:
        return f"{self.text.describe()}, or {self.record.describe()}"


@dataclass(frozen=True, slots=True)
class Tagged:
    """An object whose field `tag` says which record it is."""

    tag: str
    records: Mapping[str, Record]

    def check(self, value: Any, path: Path) -> None:
        if not is_object(value):
            refuse(path, value, self.describe())
        record = self.records.get(str(value.get(self.tag)))
        if record is None:
            refuse((path, self.tag), value.get(self.tag), self.describe())
        record.check(value, path)

    def describe(self) -> str:
        return f"an object whose {self.tag} is one of {', '.join(self.records)}"


ORGANIZATION = Pattern(
    re.compile(SLUG), "an organization id: 1 to 63 of a-z, 0-9 and hyphens, no hyphen at the ends"
)
KEY = Pattern(re.compile(rf"{SLUG}/[0-9a-f]{{32}}"), 'an asset key "<organization>/<32 hex>"')
DIGEST = Pattern(re.compile(r"[0-9a-f]{64}"), "64 lower-case hex digits")
LABEL = Pattern(
    re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"), "a short name of letters, digits, _ . and -"
)
DECIMAL = Decimal()
NAME = Text(1, limits.NAME_CHARACTERS)
TAG = Text(1, limits.TAG_CHARACTERS)
DESCRIPTION = Text(0, limits.DESCRIPTION_CHARACTERS)
TIME_MS = Integer(0)
METADATA = MapOf(
    Text(1, limits.METADATA_KEY_CHARACTERS),
    Text(0, limits.METADATA_BYTES),
    limits.METADATA_PAIRS,
    limits.METADATA_BYTES,
)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rule P1's form: `"public"`, a list of organizations, or one of some further words."""

    words: tuple[str, ...] = ("public",)

    def check(self, value: Any, path: Path) -> None:
        if isinstance(value, str):
            if value not in self.words:
                refuse(path, value, self.describe())
            return
        ListOf(ORGANIZATION, 0, limits.GRANT_ORGANIZATIONS).check(value, path)

    def describe(self) -> str:
        return f"{' or '.join(self.words)}, or a list of organizations"
