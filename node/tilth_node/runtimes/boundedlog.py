"""A log of limited size: its beginning and its end are kept, the middle is dropped.

Invariant: `text()` is never longer than the limit plus one line that says what was dropped.
A step is not failed for talking too much: the last lines, which explain a failure, survive.
"""


class BoundedLog:
    """Collects bytes; three quarters of the limit for the beginning, the rest for the end."""

    def __init__(self, limit: int) -> None:
        self._head_limit = limit * 3 // 4
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self.cut_bytes = 0

    def add(self, data: bytes) -> None:
        room = self._head_limit - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - self._tail_limit
        # Trimming only now and then keeps a log of gigabytes from moving the tail at every read.
        if excess > max(self._tail_limit, 1 << 16):
            self._trim(excess)

    def text(self) -> bytes:
        """What was kept."""
        self._trim(len(self._tail) - self._tail_limit)
        mark = f"\n[{self.cut_bytes} bytes dropped here]\n".encode() if self.cut_bytes else b""
        return bytes(self._head) + mark + bytes(self._tail)

    def _trim(self, excess: int) -> None:
        if excess > 0:
            del self._tail[:excess]
            self.cut_bytes += excess
