"""Attempts to take more than a step was given: memory, disk, processes, files, processors.

Made like those of `escapes`, which loads this file from beside itself. Standard library only.

Invariant: what was taken is given back before the next attempt, also where nothing stops it.
"""

import contextlib
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

Aim = Mapping[str, Any]
_SAMPLE_SECONDS = 0.5


def raise_limits(aim: Aim) -> str:
    """Lift any bound that the step's first process was given."""
    kinds = ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_AS")
    for name in kinds:
        kind = getattr(resource, name)
        soft, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY:
            return f"{name} has no bound"
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (soft, hard + 1))
            return f"raised {name}"
    raise PermissionError("every bound is final")


def open_files_without_end(aim: Aim) -> str:
    held: list[int] = []
    try:
        while len(held) <= aim["open_files"]:
            held.append(os.dup(0))
    finally:
        for each in held:
            os.close(each)
    return f"had {len(held)} files open"


def make_a_huge_file(aim: Aim) -> str:
    """One that takes no room, so that only the bound of a file's size stops it."""
    path = f"{aim['root']}/huge"
    try:
        with open(path, "wb") as file:
            file.truncate(aim["scratch_bytes"] + 1)
    finally:
        os.unlink(path)
    return "made one larger than its disk"


def fill_memory(aim: Aim) -> str:
    size = 2 * aim["memory_bytes"]
    bytearray(size)
    return f"had {size} bytes"


def fill_disk(aim: Aim) -> str:
    written = 0
    paths = (f"{aim['root']}/fill", "/dev/shm/tilth-self-test")  # noqa: S108
    try:
        for path in paths:
            with open(path, "wb") as file:
                while written < 2 * aim["scratch_bytes"]:
                    written += file.write(bytes(1 << 20))
                    file.flush()
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return f"wrote {written} bytes"


def fork_without_end(aim: Aim) -> str:
    children: list[int] = []
    try:
        while len(children) < 4 * aim["processes"]:
            child = os.fork()
            if not child:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"had {len(children)} processes"


def be_spared(aim: Aim) -> str:
    """Not be the first to go when the machine itself runs out of memory."""
    with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        before = file.read()
        file.write("0")
        file.seek(0)
        file.write(before)
    return "changed its place"


def take_more_processors(aim: Aim) -> str:
    """Keep more processors busy than the step's share."""
    share, busy = aim["cpus"], math.ceil(aim["cpus"]) + 1
    if not share or (os.cpu_count() or 1) <= share:
        raise PermissionError("its share is the whole machine")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    children = [_spin(begun + _SAMPLE_SECONDS) for _ in range(busy)]
    for child in children:
        os.waitpid(child, 0)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
    used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took
    if used <= 1.25 * share + 0.1:
        raise PermissionError(f"had {used:.2f} of {share:g} processors")
    return f"had {used:.2f} processors instead of {share:g}"


def _spin(until: float) -> int:
    """A child that keeps a processor busy; its number."""
    child = os.fork()
    if not child:
        while time.monotonic() < until:
            pass
        os._exit(0)
    return child


ATTEMPTS: Mapping[str, Callable[[Aim], str]] = {
    attempt.__name__: attempt
    for attempt in (
        raise_limits,
        open_files_without_end,
        make_a_huge_file,
        fill_memory,
        fill_disk,
        fork_without_end,
        be_spared,
        take_more_processors,
    )
}
