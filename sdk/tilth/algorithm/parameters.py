"""Parameters of an algorithm: declared once, checked by the ledger (rule R5), read by the runner.

Invariant: what goes into a manifest holds no floats. A float travels as decimal text of at most 12
places, and `Parameter.read` turns it back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilth_ledger.errors import InvalidInput

_NAMES: Mapping[type, str] = {int: "int", float: "float", bool: "bool", str: "str"}


def decimal_text(value: float) -> str:
    """`value` as decimal text without exponent, rounded to 12 places."""
    text = f"{value:.12f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named value that a plan may set; without a default it must."""

    name: str
    type: type
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: Sequence[Any] = ()
    help: str = ""

    def __post_init__(self) -> None:
        if self.type not in _NAMES:
            raise InvalidInput(
                f"the parameter {self.name} has a type that does not exist",
                found=self.type,
                expected="int, float, bool or str",
                remedy="Declare it with one of these types.",
            )

    def schema(self) -> dict[str, Any]:
        """The parameter as the manifest of an `algo.add` holds it."""
        facts: dict[str, Any] = {"name": self.name, "type": _NAMES[self.type]}
        for name in ("default", "low", "high"):
            value = getattr(self, name)
            if value is not None:
                facts[name] = self.plain(value)
        if self.choices:
            facts["choices"] = [self.plain(choice) for choice in self.choices]
        if self.help:
            facts["help"] = self.help
        return facts

    def plain(self, value: Any) -> Any:
        """A value as it travels: no floats."""
        return decimal_text(float(value)) if self.type is float else self.type(value)

    def read(self, value: Any) -> Any:
        """A value as it travelled, or written by hand, in its Python type."""
        try:
            return self.type(value)
        except (TypeError, ValueError):
            raise InvalidInput(
                f"the parameter {self.name} cannot be read",
                found=repr(value),
                expected=_NAMES[self.type],
                remedy="Write the value in this form.",
            ) from None


def values(declared: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a step: the given ones in their types, the rest with their defaults."""
    known = {parameter.name: parameter for parameter in declared}
    found = {name: p.default for name, p in known.items()}
    for name, value in given.items():
        found[name] = known[name].read(value) if name in known else value
    return found
