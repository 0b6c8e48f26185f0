"""Which keys are surely not in the index: asked before the index is, where most keys are new.

A Bloom filter (Bloom 1970) with two bits a key, set by Python's own hash of strings, which is keyed
anew in each process: nobody can choose keys that collide.

- It never denies a key that was added; it affirms others now and then (3 of 100 at 11 bits a key).
- Memory is bounded: beyond MOST_BITS it affirms more, and is of less use.

Leaves to others: which keys, and from when on it may be believed (row_tables).
"""

LEAST_BITS, MOST_BITS = 1 << 20, 1 << 26
BITS_PER_KEY = 8  # at least, up to MOST_BITS
_SECOND = 31


class KeyFilter:
    """A set of keys that forgets what they are."""

    def __init__(self, keys: int) -> None:
        bits = LEAST_BITS
        while bits < min(keys * BITS_PER_KEY, MOST_BITS):
            bits *= 2
        self._mask = bits - 1
        self._bits = bytearray(bits // 8)

    def room(self, keys: int) -> bool:
        """Whether it is large enough for so many, or as large as it can be."""
        bits = self._mask + 1
        return keys * BITS_PER_KEY <= bits or bits >= MOST_BITS

    def add(self, key: str) -> None:
        """The key may be there from now on."""
        number = hash(key)
        for place in (number & self._mask, (number >> _SECOND) & self._mask):
            self._bits[place >> 3] |= 1 << (place & 7)

    def may_hold(self, key: str) -> bool:
        """False for a key that was never added."""
        number = hash(key)
        first = number & self._mask
        if not self._bits[first >> 3] >> (first & 7) & 1:
            return False
        second = (number >> _SECOND) & self._mask
        return bool(self._bits[second >> 3] >> (second & 7) & 1)
