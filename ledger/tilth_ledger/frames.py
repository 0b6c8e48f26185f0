"""Frames: how messages and files cross the pipe between a node and an isolation.

Invariants
- Sans-IO: `message` and `file_head` give bytes to write, a `Reader` is fed bytes as they come, in
  pieces of any size, and gives events.
- The reader believes nothing: names, sizes, counts and totals are checked against its `Bounds`
  before a byte of content is accepted, so that the other side can make it hold at most one
  message and one chunk. A reader that has raised stays closed.
- Paths are plain and relative (`tree.check_path`), and no path comes twice in one bundle.

Form: kind u8, name length u16, size u64 (big-endian), name, content. Kinds: 1 message (content
is a JSON object, name its verb), 2 file, 3 executable file. A message ends a bundle: the files
before it belong to it.

Leaves to others: pipes and files (`tilth_node.runtimes`), what the verbs mean.
"""

import json
import struct
from typing import Any, Final, NamedTuple

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import MAX_PATH_BYTES, check_path

HEAD: Final = struct.Struct(">BHQ")
MESSAGE, FILE, EXECUTABLE = 1, 2, 3


class Bounds(NamedTuple):
    """What one bundle may hold at most."""

    message_bytes: int = 1 << 20
    files: int = 100_000
    total_bytes: int = 1 << 30


class Message(NamedTuple):
    """The end of a bundle: a verb and its facts."""

    verb: str
    facts: dict[str, Any]


class FileStart(NamedTuple):
    """A file of `size` bytes begins; exactly that many come in `FileChunk`s."""

    path: str
    executable: bool
    size: int


class FileChunk(NamedTuple):
    """Some bytes of the file that began last; `last` ends it. An empty file has one empty chunk."""

    data: bytes
    last: bool


Event = Message | FileStart | FileChunk


def message(verb: str, facts: dict[str, Any]) -> bytes:
    """The bytes of a message."""
    content = json.dumps(facts, separators=(",", ":")).encode()
    return _head(MESSAGE, verb, len(content)) + content


def file_head(path: str, size: int, executable: bool = False) -> bytes:
    """The bytes before a file's content."""
    return _head(EXECUTABLE if executable else FILE, path, size)


def _head(kind: int, name: str, size: int) -> bytes:
    raw = name.encode()
    return HEAD.pack(kind, len(raw), size) + raw


class Reader:
    """Turns bytes into events; raises InvalidInput at the first broken promise."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self._buffer = bytearray()
        self._left = 0  # bytes still to come of the file that is being read
        self._paths: set[str] = set()
        self._total = 0
        self._broken = False

    @property
    def between_bundles(self) -> bool:
        """Whether the bytes may end here without anything being lost."""
        return not (self._buffer or self._left or self._paths or self._broken)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        if self._broken:
            raise InvalidInput("these frames broke their form before and stay closed")
        self._buffer += data
        events: list[Event] = []
        self._broken = True
        while self._step(events):
            pass
        self._broken = False
        return events

    def _step(self, events: list[Event]) -> bool:
        if self._left:
            return self._chunk(events)
        if len(self._buffer) < HEAD.size:
            return False
        kind, name_length, size = HEAD.unpack_from(self._buffer)
        self._check_head(kind, name_length, size)
        if len(self._buffer) < HEAD.size + name_length:
            return False
        name = self._name(name_length)
        if kind == MESSAGE:
            return self._message(name, HEAD.size + name_length, size, events)
        del self._buffer[: HEAD.size + name_length]
        self._start(name, kind == EXECUTABLE, size, events)
        return True

    def _chunk(self, events: list[Event]) -> bool:
        if not self._buffer:
            return False
        data = bytes(self._buffer[: self._left])
        del self._buffer[: len(data)]
        self._left -= len(data)
        events.append(FileChunk(data, self._left == 0))
        return True

    def _check_head(self, kind: int, name_length: int, size: int) -> None:
        if kind not in (MESSAGE, FILE, EXECUTABLE):
            raise InvalidInput("a frame of an unknown kind", found=kind, expected="1, 2 or 3")
        if name_length > MAX_PATH_BYTES:
            raise InvalidInput("a frame's name is too long", found=f"{name_length} bytes")
        limit = self.bounds.message_bytes if kind == MESSAGE else self.bounds.total_bytes
        limit -= 0 if kind == MESSAGE else self._total
        if size > limit:
            raise InvalidInput(
                "a frame is larger than what may still come",
                found=f"{size} bytes",
                expected=f"at most {limit} bytes",
            )
        if kind != MESSAGE and len(self._paths) >= self.bounds.files:
            raise InvalidInput("too many files in one bundle", expected=f"{self.bounds.files}")

    def _name(self, length: int) -> str:
        raw = bytes(self._buffer[HEAD.size : HEAD.size + length])
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise InvalidInput("a frame's name is not UTF-8", found=repr(raw)) from None

    def _message(self, verb: str, start: int, size: int, events: list[Event]) -> bool:
        if len(self._buffer) < start + size:
            return False
        content = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        try:
            facts = json.loads(content)
        except (ValueError, RecursionError):
            raise InvalidInput("a message is not JSON", found=verb) from None
        if not isinstance(facts, dict):
            raise InvalidInput("a message is not a JSON object", found=verb)
        self._paths.clear()
        self._total = 0
        events.append(Message(verb, facts))
        return True

    def _start(self, path: str, executable: bool, size: int, events: list[Event]) -> None:
        check_path(path)
        if path in self._paths:
            raise InvalidInput("a bundle names one file twice", found=path)
        self._paths.add(path)
        self._total += size
        self._left = size
        events.append(FileStart(path, executable, size))
        if size == 0:
            events.append(FileChunk(b"", True))
