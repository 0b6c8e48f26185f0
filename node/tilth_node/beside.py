"""A second process of one command: a pipe to it, a pipe from it, and its death is an error.

    with Beside("tilth_node.reading_ahead", database, genesis) as process:
        process.send(1, body); kind, body = process.receive()

- What crosses a pipe is frames: kind u8, length u32 (big-endian), body; none is longer than
  `MOST_BYTES`.
- The process ends with this one: by a kill when the block is left, else at its next frame.
- Whoever sends must not leave more unread than a pipe holds, or both wait for each other.

Leaves to others: what the frames mean.
"""

import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NoReturn, Self, cast

from tilth_ledger.errors import Unavailable

MOST_BYTES = 256 << 20
COLLECTIONS = 50_000, 50, 1_000  # what is held has no cycles: looking for some costs a tenth
PIPE_BYTES = 1 << 20  # some blocks: else each side waits for the other within every one

_HEAD: Final = struct.Struct(">BI")


class Beside:
    """The process, as the one that started it sees it."""

    def __init__(self, module: str, *words: str | Path) -> None:
        self._module = module
        # -P: no module is taken from the folder that the command happens to run in.
        command = (sys.executable, "-P", "-m", module, *map(str, words))
        # A group of its own: Ctrl-C is for the command, which ends this process then.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=PIPE_BYTES,
            process_group=0,
        )
        self._to = cast("IO[bytes]", self._process.stdin)  # PIPE makes both
        self._from = cast("IO[bytes]", self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, kind: int, body: bytes) -> None:
        """Write one frame. Raises `Unavailable` when the process has ended."""
        try:
            write_frame(self._to, kind, body)
            self._to.flush()
        except BrokenPipeError:
            self._ended()

    def receive(self) -> tuple[int, bytes]:
        """The next frame. Raises `Unavailable` when the process has ended instead."""
        frame = read_frame(self._from)
        return frame if frame is not None else self._ended()

    def _ended(self) -> NoReturn:
        raise Unavailable(
            "a process that this command had started has ended early",
            found=f"{self._module} ended with exit code {self._process.wait()}",
            expected="its whole work",
            remedy="Run the command again; look whether the machine ran out of memory.",
        )


def write_frame(pipe: IO[bytes], kind: int, body: bytes) -> None:
    pipe.write(_HEAD.pack(kind, len(body)))
    pipe.write(body)


def read_frame(pipe: IO[bytes]) -> tuple[int, bytes] | None:
    """The next frame; None where the other side has ended, in the middle of one too."""
    head = pipe.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    body = pipe.read(length) if length <= MOST_BYTES else b""
    return (kind, body) if len(body) == length else None
