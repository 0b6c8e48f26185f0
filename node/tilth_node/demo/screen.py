"""What the demo prints: numbered chapters with their time, indented lines, nothing that blinks.

Shared by the command and by the session in user-code/, which runs as a process of its own.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

WIDTH = 88
INDENT = "   "


class Screen:
    """Prints to `stream`, or nothing at all when it is None."""

    def __init__(self, stream: TextIO | None, chapter: int = 0) -> None:
        self._stream = stream
        self._chapter = chapter

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A numbered heading; when the chapter is over, what it took stands below it."""
        self._chapter += 1
        self._print(f"\n{self._bold(f'{self._chapter}  {title}')}")
        begun = time.monotonic()
        yield
        self._print(f"{INDENT}{self._dim(f'{time.monotonic() - begun:.1f} s')}")

    def say(self, text: str = "") -> None:
        """Lines of text below a chapter's heading."""
        for line in text.splitlines() or [""]:
            self._print(f"{INDENT}{line}".rstrip())

    def title(self, text: str) -> None:
        """The first line of all, or a last one."""
        self._print(self._bold(text))

    @property
    def quiet(self) -> bool:
        """Nothing is printed."""
        return self._stream is None

    def _print(self, line: str) -> None:
        if self._stream is not None:
            print(line, file=self._stream, flush=True)

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._coloured else text

    def _dim(self, text: str) -> str:
        return f"\033[2m{text}\033[0m" if self._coloured else text

    @property
    def _coloured(self) -> bool:
        return self._stream is not None and self._stream.isatty()


def stdout(*, quiet: bool, chapter: int = 0) -> Screen:
    """A screen on this process's standard output."""
    return Screen(None if quiet else sys.stdout, chapter)
