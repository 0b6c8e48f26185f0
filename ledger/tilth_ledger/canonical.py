"""Canonical JSON: RFC 8785 out, strict I-JSON (RFC 7493) in, and SHA-256 in hex.

Invariants:
- `dumps` equals the `rfc8785` library byte for byte; values without floats take a faster way to the
  same bytes.
- `loads` raises nothing but `InvalidInput`, and refuses whatever two parsers could read
  differently: duplicate keys, nulls, floats, integers beyond 2^53 - 1, invalid UTF-8, lone
  surrogates and noncharacters, deep nesting.

Left to others: what fields mean. Signed bytes are verified verbatim and never canonicalised again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import rfc8785

from tilth_ledger.errors import InvalidInput

MAX_INTEGER = 2**53 - 1

# Code points beyond the basic plane: the one place where Python's order of keys (by code
# point) differs from RFC 8785's (by UTF-16 unit).
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(p << 16 | 0xFFFE) + chr(p << 16 | 0xFFFF) for p in range(17)
)
_FORBIDDEN = re.compile(f"[\ud800-\udfff{_NONCHARACTERS}]")


def _encoder() -> Callable[[Any], str]:
    """What writes plain values: the encoder in C that `JSONEncoder` makes anew for every value, or
    `JSONEncoder` where there is none."""
    whole = json.JSONEncoder(
        ensure_ascii=False, check_circular=False, separators=(",", ":"), sort_keys=True
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = getattr(json.encoder, "c_encode_basestring", None)
    if make is None or escape is None:
        return whole.encode
    parts = make(None, whole.default, escape, None, ":", ",", True, False, False)
    return lambda value: "".join(parts(value, 0))


_encode = _encoder()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def dumps(value: Any) -> bytes:
    """The RFC 8785 form of `value` in UTF-8; `InvalidInput` if it has none."""
    try:
        if _is_plain(value):
            text = _encode(value)
            if text.isascii() or not _ASTRAL.search(text):
                return text.encode()
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "value has no canonical JSON form",
            found=error,
            expected="objects, lists, strings, booleans, and numbers within 2^53",
        ) from error


def _is_plain(value: Any) -> bool:
    """Whether `value` holds only what the fast encoder writes as RFC 8785 does."""
    stack = [value]
    for item in stack:  # grows while it is walked
        kind = type(item)
        if kind is dict:
            for key, inner in item.items():
                if type(key) is not str:
                    return False
                if type(inner) is not str:
                    stack.append(inner)
        elif kind is list or kind is tuple:
            stack.extend(item)
        elif kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                return False
        elif not (kind is str or kind is bool or item is None):
            return False
        if len(stack) > 1_000_000:  # a cycle: the slow way reports it
            return False
    return True


def loads(data: bytes, *, max_bytes: int = 1 << 20, max_depth: int = 32) -> Any:
    """Parse strict I-JSON; `InvalidInput` says what is wrong."""
    if len(data) > max_bytes:
        raise InvalidInput("JSON is too long", found=f"{len(data)} bytes", expected=max_bytes)
    try:
        text = data.decode()
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("not valid JSON", found=error, expected="UTF-8 JSON") from error
    # Each check is made only when the bytes could offend: most entries pay for none of them.
    if not text.isascii() and (bad := _FORBIDDEN.search(text)):
        _refuse_character(bad.group())
    if b"\\u" in data:
        _check_strings(value)
    if b"null" in data:
        _check_no_null(value)
    if not _is_shallow(data, max_depth):
        _check_depth(value, max_depth)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInput("JSON object has a duplicate key", found=repr(key)[:80])
            seen.add(key)
    return result


def _integer(text: str) -> int:
    # 2^53 has 16 digits; a longer text is never converted.
    if len(text) > 17 or not -MAX_INTEGER <= (number := int(text)) <= MAX_INTEGER or text == "-0":
        raise InvalidInput(
            "JSON integer out of range", found=text[:40], expected=f"within +-{MAX_INTEGER}"
        )
    return number


def _no_float(text: str) -> NoReturn:
    raise InvalidInput(
        "JSON holds a number that is not an integer",
        found=text[:40],
        expected="an integer, or a decimal written as a string",
    )


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_no_float,
    parse_constant=_no_float,
)


_scan = _DECODER.scan_once  # type: ignore[attr-defined]  # no stub knows it


def _refuse_character(character: str) -> NoReturn:
    raise InvalidInput(
        "JSON string holds a surrogate or noncharacter", found=f"U+{ord(character):04X}"
    )


def _walk(value: Any) -> list[Any]:
    """Every value inside `value`, itself first, keys included."""
    found = [value]
    for item in found:  # grows while it is walked
        if type(item) is dict:
            found.extend(item)
            found.extend(item.values())
        elif type(item) is list:
            found.extend(item)
    return found


def _check_strings(value: Any) -> None:
    for item in _walk(value):
        if type(item) is str and (bad := _FORBIDDEN.search(item)):
            _refuse_character(bad.group())


def _check_no_null(value: Any) -> None:
    if any(item is None for item in _walk(value)):
        raise InvalidInput("JSON holds a null", expected="leave the field out instead")


_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def _parsed(text: str) -> Any:
    """What the decoder makes of `text`; without its look for white space around an entry."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else _DECODER.decode(text)


def _is_shallow(data: bytes, limit: int) -> bool:
    """Whether its marks alone say that valid JSON is nested at most so deeply: quotes and brackets
    are left of it, then strings are taken away, then innermost pairs by turns. False: look closer.

    The first quote goes away with the second, and so on: any that stays shows that a string holds a
    bracket. With a backslash, a quote may stand inside of a string."""
    marks = data.translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")
    if b"\\" in data or b'"' in marks:
        return len(marks) <= 2 * limit  # two a level at least
    turns = 0
    while len(marks) > 2 * (limit - turns) >= 0:
        marks, turns = marks.replace(b"[]", b""), turns + 1
    return turns <= limit


def _check_depth(value: Any, limit: int) -> None:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if type(item) in (dict, list)
            for child in (item.values() if type(item) is dict else item)
        ]
    if any(type(item) in (dict, list) for item in level):
        raise InvalidInput("JSON is nested too deeply", expected=f"at most {limit} levels")
