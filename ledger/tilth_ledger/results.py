"""What a step says of itself, read with suspicion: perf.json and report.json.

Invariants
- The files were written by hostile code: size, depth, numbers and names are checked, and nothing
  but what is named here is taken over.
- Numbers become decimals as the ledger holds them: at most 12 places and 18 digits, rounded half
  to even, no exponents. A value that is no finite number is told apart (`Score.value` is None),
  never rounded into one.

Left to others: whether a score counts (rules), who may see a report (permissions).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final

from tilth_ledger import limits
from tilth_ledger.errors import InvalidInput
from tilth_ledger.schema import LABEL

_PLACES: Final = 12
_OWN_NAMES: Final = frozenset({"all", "count", "interval", "statistics", "samples"})


@dataclass(frozen=True, slots=True)
class Score:
    """perf.json as it may stand on the ledger. `value` is None when it is no finite number."""

    value: str | None
    count: int
    interval: tuple[str, str] | None
    named: Mapping[str, str]
    statistics: Mapping[str, Any] | None

    def as_operation(self) -> dict[str, Any]:
        """The `score` of a task.done; only for a finite value."""
        facts: dict[str, Any] = {"value": self.value, "count": self.count}
        facts |= {"interval": list(self.interval)} if self.interval else {}
        facts |= {"named": dict(self.named)} if self.named else {}
        return facts | ({"statistics": dict(self.statistics)} if self.statistics else {})


def read_score(data: bytes) -> Score:
    """The score in a perf.json; raises InvalidInput when it has another form."""
    facts = _object(data, "perf.json")
    count = facts.get("count")
    if type(count) is not int or not 1 <= count < 1 << 53:
        raise _wrong(
            "perf.json without the number of rows scored", facts.get("count"), "count >= 1"
        )
    if "all" not in facts:
        raise _wrong("perf.json without a score", sorted(facts)[:10], 'the key "all"')
    return Score(
        value=_finite(facts["all"]),
        count=count,
        interval=_interval(facts.get("interval")),
        named=_named(facts),
        statistics=_statistics(facts.get("statistics")),
    )


def read_count(data: bytes) -> int | None:
    """The row count in a report.json; None when it states none or is not readable."""
    try:
        count = _object(data, "report.json").get("count")
    except InvalidInput:
        return None  # a report is a courtesy: a broken one fails no task
    return count if type(count) is int and 0 <= count < 1 << 53 else None


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        facts = json.loads(data, parse_float=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):
        raise _wrong(f"{name} is not JSON", repr(data[:20]), "a JSON object") from None
    if not isinstance(facts, dict):
        raise _wrong(f"{name} is not a JSON object", type(facts).__name__, "an object")
    return facts


class _Number(str):
    """A number of JSON that is not an integer, as it was written."""

    __slots__ = ()


def _finite(value: Any) -> str | None:
    """A number as the ledger's decimal text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, _Number)):
        return None
    try:
        with localcontext(prec=100, rounding=ROUND_HALF_EVEN):
            number = Decimal(str(value))
            if not number.is_finite() or abs(number) >= Decimal(10) ** limits.DECIMAL_DIGITS:
                return None
            whole = len(str(int(abs(number))))
            places = min(_PLACES, limits.DECIMAL_DIGITS - whole)
            text = f"{number.quantize(Decimal(1).scaleb(-places)):f}"
    except (ArithmeticError, ValueError):
        return None
    text = text.rstrip("0").rstrip(".") if "." in text else text
    if len(text.lstrip("-").replace(".", "")) > limits.DECIMAL_DIGITS:
        return None  # rounding carried into one digit more
    return "0" if text == "-0" else text


def _interval(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = _finite(value[0]), _finite(value[1])
    return (low, high) if low is not None and high is not None else None


def _named(facts: Mapping[str, Any]) -> dict[str, str]:
    """Further named values: those that are finite and have a short plain name."""
    named: dict[str, str] = {}
    for name in sorted(facts.keys() - _OWN_NAMES):
        number = _finite(facts[name])
        if number is not None and LABEL.pattern.fullmatch(name):
            named[name] = number
    return dict(list(named.items())[: limits.NAMED_SCORES])


def _statistics(value: Any) -> Mapping[str, Any] | None:
    """A confusion matrix of integers that nodes may pool; anything else stays off the ledger."""
    if not isinstance(value, dict) or value.keys() != {"labels", "matrix"}:
        return None
    labels, matrix = value["labels"], value["matrix"]
    size = len(labels) if isinstance(labels, list) else 0
    if not 1 <= size <= limits.CONFUSION_LABELS or not isinstance(matrix, list):
        return None
    plain = all(type(label) is int or type(label) is str for label in labels)
    square = len(matrix) == size and all(isinstance(r, list) and len(r) == size for r in matrix)
    counts = square and all(type(n) is int and 0 <= n < 1 << 53 for r in matrix for n in r)
    return {"labels": labels, "matrix": matrix} if plain and counts else None


def _wrong(message: str, found: object, expected: str) -> InvalidInput:
    return InvalidInput(message, found=found, expected=expected)
