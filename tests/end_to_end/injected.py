"""System calls of a running node that fail: strace attaches to it, and lets the kernel refuse.

    fault = Fault("ledger.db-wal", "fsync,fdatasync", "error=EIO", once=True)
    with Injected(network.sites[0], fault) as injected:
        injected.begin()          # the next such call on that file fails
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
from types import TracebackType

from lacking import lacks
from network import Site

WRITES = ("write", "pwrite64", "fsync", "fdatasync", "rename", "ftruncate")


def needs_strace() -> None:
    """Nothing here goes without."""
    if shutil.which("strace") is None or os.geteuid() != 0:
        lacks("system calls that fail need root and strace")


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
    """strace, attached to a node from `begin` until the node or this ends."""

    def __init__(self, site: Site, fault: Fault) -> None:
        needs_strace()
        self._site = site
        self._fault = fault
        self._strace: subprocess.Popen[str] | None = None
        self._trace = site.folder.parent / f"{site.organization}.strace"

    def __enter__(self) -> "Injected":
        return self

    def begin(self) -> None:
        """Attach to the node as it runs now; returns when its next call may fail."""
        fault, process = self._fault, self._site.process
        assert process is not None
        self._trace.unlink(missing_ok=True)
        path = self._site.folder / fault.file
        names = {*WRITES, *fault.calls.split(",")}
        when = "1" if fault.once else "1+"
        self._strace = subprocess.Popen(
            [
                *("strace", "-f", "-y", "-o", str(self._trace)),
                *("-P", str(path), "-p", str(process.pid)),
                *("-e", f"trace={','.join(sorted(names))}"),
                *("-e", f"inject={fault.calls}:{fault.how}:when={when}"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        assert "attached" in said, said

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._strace is None:
            return
        self._strace.terminate()  # it detaches, and a node that runs goes on
        self._strace.communicate()

    def calls(self) -> Sequence[str]:
        """The calls on the file since then, in order, such as `fsync = -1 EIO (INJECTED)`."""
        found = re.compile(r"^\d+ +(\w+)\(.*\) += (.*)$", re.MULTILINE)
        return [f"{name} = {result}" for name, result in found.findall(self._trace.read_text())]
