"""Keys of rows that are not in the file's index yet, in memory: found quickly, and in order.

- A key and its number are one string of bytes, 110 bytes for a key of 66 instead of 220 in a dict
  and a list: so twice as many may wait. Between them stands a zero byte, which no key holds: the
  order of these strings is that of the keys.
- They stand on shelves of bounded length, in the order of the shelves. What comes is put on its
  shelf as it comes, and in order when somebody asks the shelf: to compare it with many others at
  once would read memory that no cache holds, again and again.

Leaves to others: which keys, and writing them (row_tables).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

NUMBER_BYTES = 5
SHELF = 512  # strings; at twice as many it becomes two
FEW = 8  # that are quicker put in their places than all sorted anew


class _Shelf:
    """Strings in order, and those that came since."""

    __slots__ = ("came", "items")

    def __init__(self, items: list[bytes]) -> None:
        self.items = items
        self.came: list[bytes] = []

    def put_in_order(self) -> list[bytes]:
        """All of them, in order."""
        if self.came:
            if len(self.came) <= FEW:
                for item in self.came:
                    insort(self.items, item)
            else:
                self.items += self.came
                self.items.sort()
            self.came = []
        return self.items


class FreshKeys:
    """The number of each row whose key is fresh."""

    def __init__(self, pairs: Iterable[tuple[str, int]] = ()) -> None:
        items = sorted(_item(key, number) for key, number in pairs)
        self._count = len(items)
        parts = [items[at : at + SHELF] for at in range(0, len(items), SHELF)] or [[]]
        self._shelves = [_Shelf(part) for part in parts]
        self._firsts = [b"", *(_first(part[0]) for part in parts[1:])]

    def __len__(self) -> int:
        return self._count

    def number_of(self, key: str) -> int | None:
        """The number of a key; None when it is not here."""
        start = key.encode() + b"\0"
        items = self._shelves[self._place(start)].put_in_order()
        at = bisect_left(items, start)
        if at < len(items) and items[at].startswith(start):
            return int.from_bytes(items[at][len(start) :])
        return None

    def add(self, pairs: Iterable[tuple[str, int]]) -> None:
        """Keys that are not here."""
        firsts, shelves = self._firsts, self._shelves
        for key, number in pairs:
            item = _item(key, number)
            at = bisect_right(firsts, item) - 1
            shelf = shelves[at]
            shelf.came.append(item)
            self._count += 1
            if len(shelf.items) + len(shelf.came) == 2 * SHELF:
                self._divide(at)

    def _divide(self, at: int) -> None:
        items = self._shelves[at].put_in_order()
        parts = [items[start : start + SHELF] for start in range(0, len(items), SHELF)]
        self._shelves[at : at + 1] = [_Shelf(part) for part in parts]
        self._firsts[at + 1 : at + 1] = [_first(part[0]) for part in parts[1:]]

    def remove(self, keys: Iterable[str]) -> None:
        """Keys that went, if they are here."""
        for key in keys:
            self._remove(key.encode() + b"\0", key.encode() + b"\1")

    def merged(self, after: str, pairs: list[tuple[str, int]]) -> None:
        """These, all that stood behind `after` up to the last of them, are in the index now."""
        if pairs:
            self._remove(_above(after), _above(pairs[-1][0]))

    def front(self, after: str, count: int) -> list[tuple[str, int]]:
        """The first so many keys behind one, in order, with their numbers."""
        found: list[bytes] = []
        start = _above(after)
        for at in range(self._place(start), len(self._shelves)):
            items = self._shelves[at].put_in_order()
            first = bisect_left(items, start)
            found += items[first : first + count - len(found)]
            if len(found) == count:
                break
        return [_pair(item) for item in found]

    def scan(self, low: str, high: str) -> Iterator[tuple[str, int]]:
        """Keys from `low` to `high`, in order, with their numbers. The least text above a key is
        it and a zero: what `low` says of it is meant."""
        start, end = low.encode().replace(b"\0", b"\1"), _above(high)
        for at in range(self._place(start), len(self._shelves)):
            items = self._shelves[at].put_in_order()
            first, last = bisect_left(items, start), bisect_left(items, end)
            yield from map(_pair, items[first:last])
            if last < len(items):
                return

    def _place(self, start: bytes) -> int:
        """Which shelf it would stand on."""
        return bisect_right(self._firsts, start) - 1

    def _remove(self, start: bytes, end: bytes) -> None:
        """Remove strings from `start` to before `end`."""
        at = self._place(start)
        while at < len(self._shelves):
            items = self._shelves[at].put_in_order()
            first, last = bisect_left(items, start), bisect_left(items, end)
            ends_here = last < len(items)
            del items[first:last]
            self._count -= last - first
            if items or at == 0:
                at += 1
            else:
                del self._shelves[at], self._firsts[at]
            if ends_here:
                return


def _item(key: str, number: int) -> bytes:
    return str.encode(key) + b"\0" + number.to_bytes(NUMBER_BYTES)


def _first(item: bytes) -> bytes:
    """Where a shelf begins: with this key, whatever its number."""
    return item[:-NUMBER_BYTES]


def _pair(item: bytes) -> tuple[str, int]:
    key, number = item[: -NUMBER_BYTES - 1], item[-NUMBER_BYTES:]
    return key.decode(), int.from_bytes(number)


def _above(key: str) -> bytes:
    """Above the string of this key, and below that of each greater one."""
    return key.encode() + b"\1"
