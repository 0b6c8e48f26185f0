"""Which keys are surely new: asked before any index is, where most keys are new.

A Bloom filter (Bloom 1970) whose bits of one key stand in one word (Putze et al. 2007), since what
costs is the memory that no cache holds: one place a key. Words and bits are chosen by Python's own
hash of strings, which is keyed anew in each process: nobody can choose keys that collide.

- It never denies a key that was added; it affirms others now and then (2 of 100 at 11 bits a key).
- Memory is bounded: beyond MOST_BITS it affirms more, and is of less use.

Leaves to others: which keys, and from when on it may be believed (row_tables).
"""

from array import array
from collections.abc import Iterable
from itertools import combinations, islice

LEAST_BITS, MOST_BITS = 1 << 20, 1 << 26
BITS_PER_KEY = 8  # at least, up to MOST_BITS
WORD_BITS = 64
KEY_BITS = 4  # of a word
_PATTERNS = 1 << 10
_SECOND = 31


def _patterns() -> list[int]:
    """Ways to set KEY_BITS of a word, from all over those that there are."""
    every = 635_376 // _PATTERNS  # 64 over 4
    some = islice(combinations(range(WORD_BITS), KEY_BITS), 0, every * _PATTERNS, every)
    return [sum(1 << bit for bit in bits) for bits in some]


class KeyFilter:
    """A set of keys that forgets what they are."""

    _patterns = _patterns()

    def __init__(self, keys: int) -> None:
        bits = LEAST_BITS
        while bits < min(keys * BITS_PER_KEY, MOST_BITS):
            bits *= 2
        self._bits = bits
        self._words = array("Q", bytes(bits // 8))
        self._last = len(self._words) - 1

    def room(self, keys: int) -> bool:
        """Whether it is large enough for so many, or as large as it can be."""
        return keys * BITS_PER_KEY <= self._bits or self._bits >= MOST_BITS

    def add(self, keys: Iterable[str]) -> None:
        """These may be there from now on."""
        words, patterns, last = self._words, self._patterns, self._last
        for key in keys:
            number = hash(key)
            words[number & last] |= patterns[number >> _SECOND & _PATTERNS - 1]

    def may_hold(self, key: str) -> bool:
        """False for a key that was never added."""
        number = hash(key)
        pattern = self._patterns[number >> _SECOND & _PATTERNS - 1]
        return self._words[number & self._last] & pattern == pattern
