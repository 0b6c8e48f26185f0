"""A bounded reader of fixed binary layouts.

Invariants: it never reads past the end, raises nothing but `InvalidInput`, and `end` refuses
bytes that nobody asked for. Left to others: every layout (blocks, messages, journal records).
"""

from __future__ import annotations

import struct
from typing import Any

from tilth_ledger.errors import InvalidInput


class Reader:
    """Takes pieces off the front of `data`; `what` names it in errors."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self.what = what

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise InvalidInput(
                f"{self.what} is cut short", found=f"{self.left} bytes", expected=count
            )
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def number(self, width: int) -> int:
        """An unsigned big-endian integer of `width` bytes."""
        return int.from_bytes(self.take(width))

    def items(self, count: int, most: int) -> tuple[bytes, ...]:
        """So many items, each its length (u32) and at most `most` bytes."""
        data, at, items = self._data, self._at, []
        for _ in range(count):
            start = at + 4
            length = int.from_bytes(data[at:start])
            if length > most:
                raise InvalidInput(
                    f"{self.what}'s item is too large", found=length, expected=f"at most {most}"
                )
            at = start + length
            if at > len(data):
                raise InvalidInput(
                    f"{self.what} is cut short", found=f"{len(data) - start} bytes", expected=length
                )
            items.append(data[start:at])
        self._at = at
        return tuple(items)

    def end(self) -> None:
        if self.left:
            raise InvalidInput(f"{self.what} has trailing bytes", found=f"{self.left} bytes")
