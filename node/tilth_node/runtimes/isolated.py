"""The node's end of one isolation: start it, give it a step, read the answer, end it.

Invariants
- What comes out is believed nothing: frames are bounded before they are read, files land only
  below the folder that was given and only under declared paths.
- The ledger's share of the disk is never filled by outputs.
- `end` returns when the launcher is gone; the kernel ends everything below it.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tilth_ledger import frames
from tilth_ledger.errors import InvalidInput
from tilth_node.runtimes import NodeFault, hostpython
from tilth_node.runtimes.room import check_room

_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv[1].split(':'); "
    "from tilth_node.runtimes.isolation import main; main()"
)
_CHUNK: Final = 1 << 18
_WORDS: Final = 4_000  # of a broken isolation, for the error message


@dataclass(frozen=True, slots=True)
class Answer:
    """What an isolation said about a step."""

    facts: Mapping[str, Any]
    log: bytes
    output_bytes: int


class Isolated:
    """A running isolation."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.first_pid = 0  # pid 1 of the isolation, as the host sees it
        self.steps = 0
        self._ending: asyncio.Task[str] | None = None

    @classmethod
    async def start(cls, facts: Mapping[str, Any]) -> "Isolated":
        """A new isolation as `facts` describe it (see `rootfs.enter`, `hostpython.layout`)."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", _BOOT, ":".join(hostpython.source_roots())),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={},
                cwd="/",
            )
        except OSError as error:
            ours.close()
            raise NodeFault("no isolation could be started", found=error) from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_CHUNK)
        made = cls(process, reader, writer)
        await made._describe({**facts, "parent": os.getpid()})
        return made

    @property
    def launcher_pid(self) -> int:
        return self._process.pid

    async def _describe(self, facts: Mapping[str, Any]) -> None:
        self._writer.write(frames.message("isolation", dict(facts)))
        await self._drain()
        incoming = frames.Reader(frames.Bounds(message_bytes=1_000, files=0))
        for event in incoming.feed(await self._read()):
            if isinstance(event, frames.Message) and event.verb == "started":
                self.first_pid = int(event.facts["pid"])

    async def give(self, files: Mapping[str, bytes | Path], facts: Mapping[str, Any]) -> None:
        """Send the files of a step and let it run."""
        self.steps += 1
        for path, content in files.items():
            if isinstance(content, bytes):
                self._writer.write(frames.file_head(path, len(content)) + content)
            else:
                await self._send_file(path, content)
        self._writer.write(frames.message("step", dict(facts)))
        await self._drain()

    async def _send_file(self, path: str, source: Path) -> None:
        with source.open("rb") as file:
            self._writer.write(frames.file_head(path, os.fstat(file.fileno()).st_size))
            while data := file.read(_CHUNK):
                self._writer.write(data)
                await self._drain()

    async def answer(self, folder: Path, declared: list[str], bounds: frames.Bounds) -> Answer:
        """The end of the step; its outputs are then below `folder`. Raises NodeFault."""
        incoming = frames.Reader(bounds)
        received = _Received(folder, declared)
        with contextlib.closing(received):
            while True:
                try:
                    events = incoming.feed(await self._read())
                    for event in events:
                        if isinstance(event, frames.Message):
                            return Answer(event.facts, bytes(received.log), received.total)
                        received.take(event)
                except InvalidInput as error:
                    raise NodeFault("an isolation broke its form", found=error) from error

    async def end(self) -> str:
        """Kill it; returns its last words. May be called by several, and again."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        return await asyncio.shield(self._ending)

    async def _end(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._writer.close()
        words = b""
        if self._process.stderr is not None:
            words = await self._process.stderr.read(_WORDS)
        await self._process.wait()
        return words.decode(errors="replace").strip()

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            words = await self.end()
            raise NodeFault(
                "an isolation ended without an answer",
                found=words.rpartition("\n")[2] or "no words",
                remedy="run `tilth node doctor` to see what this machine allows",
            )
        return data

    async def _drain(self) -> None:
        # A broken pipe shows again, with words, when the answer is read.
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()


class _Received:
    """The files of an answer, written as they come."""

    def __init__(self, folder: Path, declared: list[str]) -> None:
        self._folder = folder
        self._declared = declared
        self._fd = -1
        self.log = bytearray()
        self.total = 0

    def take(self, event: frames.FileStart | frames.FileChunk) -> None:
        match event:
            case frames.FileStart("log"):
                self._fd = -1
            case frames.FileStart(path, executable, size):
                check_room(self._folder, size)
                self._fd = self._create(path.removeprefix("task/"), executable)
                self.total += size
            case frames.FileChunk(data, last):
                self._write(data, last)

    def _create(self, path: str, executable: bool) -> int:
        if not any(path == d or path.startswith(f"{d}/") for d in self._declared):
            raise InvalidInput("a file that no output declares", found=path)
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(target, flags, 0o755 if executable else 0o644)

    def _write(self, data: bytes, last: bool) -> None:
        if self._fd < 0:
            self.log += data
            return
        while data:
            data = data[os.write(self._fd, data) :]
        if last:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
