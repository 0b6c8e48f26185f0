"""A decoder of bytes that come from outside, and what must be true of it whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tilth_ledger.errors import TilthError


@dataclass(frozen=True)
class Decoder:
    """One decoder: `again` encodes what it gave, where there is only one way to."""

    name: str
    decode: Callable[[bytes], Any]
    examples: tuple[bytes, ...]
    again: Callable[[Any], bytes] | None = None
    declared: tuple[type[Exception], ...] = (TilthError,)

    def attempt(self, data: bytes) -> bool:
        """Whether it decodes; AssertionError if it gives something that is not these bytes."""
        try:
            value = self.decode(data)
        except self.declared:
            return False
        if self.again is not None and value is not None:
            found = self.again(value)
            assert found == data, f"{self.name} reads two forms as one: {data!r}, {found!r}"
        return True


def of_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """A decoder of text, fed with bytes: what is no UTF-8 never reaches it."""
    return lambda data: parse(data.decode("utf-8", "replace"))
