"""Progress for people: one line that is rewritten on a terminal, a few lines elsewhere.

It goes to standard error, so that output stays clean; quiet means nothing at all.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from tilth.terminal import harmless

BAR = 24


class Progress(Protocol):
    """What long work reports to."""

    def update(self, done: int, total: int, text: str = "") -> None: ...

    def say(self, text: str) -> None: ...


class Silent:
    """Reports to nobody."""

    def update(self, done: int, total: int, text: str = "") -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


class Line:
    """One line on a terminal, rewritten in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = False

    def update(self, done: int, total: int, text: str = "") -> None:
        width = shutil.get_terminal_size().columns
        line = f"{bar(done, total)} {done}/{total} {harmless(text)}"[: width - 1]
        self._stream.write("\r\x1b[K" + line)
        self._stream.flush()
        self._open = True

    def say(self, text: str) -> None:
        self.close()
        self._stream.write(harmless(text) + "\n")

    def close(self) -> None:
        """Leaves the last line standing."""
        if self._open:
            self._stream.write("\n")
            self._open = False


class Lines:
    """Where nothing can be rewritten: a line for every fifth of the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = -1

    def update(self, done: int, total: int, text: str = "") -> None:
        fifth = 5 * done // total if total else 0
        if fifth != self._shown:
            self._shown = fifth
            self.say(f"{done}/{total} {text}")

    def say(self, text: str) -> None:
        self._stream.write(harmless(text).rstrip() + "\n")
        self._stream.flush()


def bar(done: int, total: int) -> str:
    """`[######      ]`"""
    filled = BAR * done // total if total else 0
    return "[" + "#" * filled + " " * (BAR - filled) + "]"


@contextmanager
def reporter(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """The right kind of progress for where it is shown."""
    out = stream or sys.stderr
    if quiet:
        yield Silent()
    elif out.isatty():
        line = Line(out)
        try:
            yield line
        finally:
            line.close()
    else:
        yield Lines(out)
