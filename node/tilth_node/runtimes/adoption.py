"""After a crash: nothing of an isolation may outlive the node that journaled it.

An isolation is killed by the kernel when its node ends; `end_leftovers` makes sure of it before the
step runs again.

Invariant: a process is recognized by pid and start time, so a pid that was given to another
process since is never touched.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import Any

from tilth_node.runtimes.isolated import Isolated


def facts_of(isolation: Isolated) -> dict[str, Any]:
    """What a handle holds of a running isolation."""
    pids = (isolation.launcher_pid, isolation.first_pid)
    return {"processes": [[pid, _started(pid)] for pid in pids if pid]}


async def end_leftovers(facts: Mapping[str, Any]) -> None:
    """Kill what is alive of the processes a handle names and wait until it is gone."""
    for pid, started in facts.get("processes", ()):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            # Asked after the descriptor is held: now the pid cannot change its owner unseen.
            if started and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                await _ended(fd)
        finally:
            os.close(fd)


async def _ended(fd: int) -> None:
    """A pidfd is readable once its process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)


def _started(pid: int) -> int:
    """Start time in clock ticks since boot; 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
