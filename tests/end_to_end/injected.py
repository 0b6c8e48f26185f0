"""System calls of a running node that fail: strace attaches to it, and lets the kernel refuse.

    fault = Fault("ledger.db-wal", "fsync,fdatasync", "error=EIO", once=True)
    with Injected(network.sites[0], fault) as injected:
        ...                       # the next such call on that file fails
    injected.calls()              # what the node asked of that file from then on

The node is the product's, unchanged, and does not know. `once`: only the first call fails, and
whoever tries again succeeds, as the page cache of Linux does after a failed sync (fsyncgate).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lacking import lacks
from network import Site

WRITES = "write,pwrite64,fsync,fdatasync,rename,ftruncate"


@dataclass(frozen=True)
class Fault:
    """Which call on which file of a node's folder fails, and how."""

    file: str
    calls: str
    how: str
    once: bool = True

    def __str__(self) -> str:
        return f"{self.file} {self.calls} {self.how}{'' if self.once else ' for ever'}"


class Injected:
    """strace, attached to a node until the node or this ends."""

    def __init__(self, site: Site, fault: Fault) -> None:
        if shutil.which("strace") is None or os.geteuid() != 0:
            lacks("system calls that fail need root and strace")
        self._site = site
        self._fault = fault
        self._trace = site.folder.parent / f"{site.organization}.strace"

    def __enter__(self) -> "Injected":
        fault, process = self._fault, self._site.process
        assert process is not None
        self._trace.unlink(missing_ok=True)
        path = self._site.folder / fault.file
        names = sorted({*WRITES.split(","), *fault.calls.split(",")})
        when = "1" if fault.once else "1+"
        words = ("strace", "-f", "-y", "-o", str(self._trace), "-P", str(path), "-p")
        self._strace = subprocess.Popen(
            [
                *words,
                str(process.pid),
                *("-e", f"trace={','.join(names)}"),
                *("-e", f"inject={fault.calls}:{fault.how}:when={when}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        assert "attached" in said, said
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._strace.stderr is not None
        if self._site.process is not None:
            self._strace.terminate()  # it detaches, and the node goes on
        self._strace.stderr.read()
        self._strace.stderr.close()
        self._strace.wait(10)

    def calls(self) -> Sequence[str]:
        """The calls on the file since then, in order, such as `fsync = -1 EIO (INJECTED)`."""
        found = re.compile(r"^\d+ +(\w+)\(.*\) += (.*)$", re.MULTILINE)
        return [f"{name} = {result}" for name, result in found.findall(self._trace.read_text())]


def limit_file_size(site: Site, file: Path, more: int) -> None:
    """From now on the node can make no file longer than `file` is now and `more`: a write that
    crosses that is cut short by the kernel, and the next one fails."""
    assert site.process is not None
    size = file.stat().st_size + more
    words = ("prlimit", f"--pid={site.process.pid}", f"--fsize={size}:")
    subprocess.run(words, check=True)
