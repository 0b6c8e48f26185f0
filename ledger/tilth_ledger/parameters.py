"""Rule R5: an algo's parameters by its schema, a small closed one.

A parameter has a type (int, float, bool, str), and may have a default, bounds, choices, a length,
and be an array of values of its type. Numbers of type float travel as decimal text and are
compared exactly.

Invariants:
- What leaves `fit` has every parameter of the schema and nothing else.
- No binary float, no pattern: nothing here depends on a machine or takes unbounded time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from tilth_ledger.context import refuse
from tilth_ledger.schema import DECIMAL_FORM, shown

Schema = Sequence[Mapping[str, Any]]
_MISSING = object()


def check_schema(schema: Schema) -> None:
    """Refuse a schema that contradicts itself (when an algo is registered)."""
    names = [parameter["name"] for parameter in schema]
    for name in names:
        if names.count(name) > 1:
            _refuse(f"the parameter {name} stands twice in the schema", name, "every name once")
    for parameter in schema:
        scalar = {**parameter, "array": False}
        for bound in ("low", "high"):
            if bound in parameter:
                if parameter["type"] not in ("int", "float"):
                    _refuse(f"{parameter['name']} has a bound", bound, "bounds only on numbers")
                _check_type(scalar, parameter[bound])
        for choice in parameter.get("choices", ()):
            _check_type(scalar, choice)
        if "default" in parameter:
            _check(parameter, parameter["default"])


def fit(schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """The full parameters of a task: those given, and defaults for the rest."""
    names = [parameter["name"] for parameter in schema]
    for name in given:
        if name not in names:
            _refuse(
                f"the algo has no parameter {name}", name, "one of " + ", ".join(names or ["none"])
            )
    full: dict[str, Any] = {}
    for parameter in schema:
        value = given.get(parameter["name"], parameter.get("default", _MISSING))
        if value is _MISSING:
            _refuse(f"the parameter {parameter['name']} is missing", "no value", allowed(parameter))
        _check(parameter, value)
        full[parameter["name"]] = value
    return full


def allowed(parameter: Mapping[str, Any]) -> str:
    """What a parameter may be, in words."""
    words = {"float": "a decimal as text", "int": "an integer", "bool": "true or false"}
    text = words.get(parameter["type"], "text")
    if "choices" in parameter:
        text = "one of " + ", ".join(str(choice) for choice in parameter["choices"])
    if "low" in parameter:
        text += f", at least {parameter['low']}"
    if "high" in parameter:
        text += f", at most {parameter['high']}"
    return f"a list, each {text}" if parameter.get("array") else text


def _check(parameter: Mapping[str, Any], value: Any) -> None:
    if parameter.get("array"):
        if not isinstance(value, list):
            _refuse(f"{parameter['name']} is not a list", shown(value), allowed(parameter))
        _check_length(parameter, len(value), "items")
        for item in value:
            _check_scalar(parameter, item)
    else:
        _check_scalar(parameter, value)
        if parameter["type"] == "str":
            _check_length(parameter, len(value), "characters")


def _check_scalar(parameter: Mapping[str, Any], value: Any) -> None:
    _check_type(parameter, value)
    if "choices" in parameter and not any(
        _same(parameter, value, choice) for choice in parameter["choices"]
    ):
        _refuse(f"{parameter['name']} is not a choice", shown(value), allowed(parameter))
    if parameter["type"] in ("int", "float"):
        low, high = parameter.get("low"), parameter.get("high")
        below = low is not None and Decimal(value) < Decimal(low)
        if below or (high is not None and Decimal(value) > Decimal(high)):
            _refuse(f"{parameter['name']} is out of range", shown(value), allowed(parameter))


def _same(parameter: Mapping[str, Any], value: Any, choice: Any) -> bool:
    if parameter["type"] == "float":
        return Decimal(value) == Decimal(choice)
    return bool(value == choice)


def _check_type(parameter: Mapping[str, Any], value: Any) -> None:
    match parameter["type"]:
        case "bool":
            fits = type(value) is bool
        case "int":
            fits = type(value) is int
        case "float":
            fits = type(value) is int or (
                isinstance(value, str)
                and len(value) <= 40
                and DECIMAL_FORM.fullmatch(value) is not None
            )
        case _:
            fits = isinstance(value, str)
    if not fits:
        _refuse(
            f"the parameter {parameter['name']} has the wrong type",
            shown(value),
            allowed(parameter),
        )


def _check_length(parameter: Mapping[str, Any], length: int, what: str) -> None:
    low, high = parameter.get("min_length", 0), parameter.get("max_length", 4_096)
    if not low <= length <= high:
        _refuse(
            f"{parameter['name']} has the wrong length",
            f"{length} {what}",
            f"{low} to {high} {what}",
        )


def _refuse(message: str, found: object, expected: object) -> NoReturn:
    refuse(
        "R5",
        message,
        found=found,
        expected=expected,
        remedy="Correct the parameter; `tilth algo show NAME` prints the schema.",
    )
