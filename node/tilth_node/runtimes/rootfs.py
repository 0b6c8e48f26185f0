"""The file system of an isolation: a small root of its own, read-only, with only what a step needs.

    /usr, Python, the packages of Tilth   bound read-only from the host
    /dev                                  null, zero, full, random, urandom; shm of the step
    /proc                                 of the isolation's own processes
    /volumes/<n>                          what is bound again into each new disk: the step's
                                          folders, and what of the host lies below /tmp
    /task, /tmp, /dev/shm                 one memory disk of limited size, new for every step

Invariants
- The host's root is gone after `enter`: no path leads back to it.
- Everything bound is read-only, nosuid and nodev, with all mounts below it.
- What a step wrote is gone after `renew`: its disk is dropped, not emptied.

Runs inside the isolation, before and beside user code but never in its process.
"""

import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tilth_node.runtimes import kernel

_STAGE: Final = "/tmp"  # noqa: S108  any folder of the host: a mount hides it in this namespace only
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_SCRATCH: Final = "/scratch"
_SCRATCH_FOLDERS: Final = (("task", "/task"), ("tmp", "/tmp"), ("shm", "/dev/shm"))  # noqa: S108
_READ_ONLY: Final = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
_SAFE: Final = kernel.MS_NOSUID | kernel.MS_NODEV
_FILES_PER_DISK: Final = 200_000


class Root(NamedTuple):
    """What `enter` made."""

    proc: bool  # whether /proc could be mounted
    again: tuple[tuple[str, str], ...]  # what `renew` binds into each new disk: from, to


def enter(facts: dict[str, Any]) -> Root:
    """Build the root and make it this process's.

    `facts`: "binds" and "volumes" as [source, target], "links" as [path, destination].
    Needs to be pid 1 of its namespace, in a mount namespace of its own.
    """
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    binds = [(source, target) for source, target in facts["binds"] if not _on_disk(target)]
    hidden = [(source, target) for source, target in facts["binds"] if _on_disk(target)]
    hidden += [(source, f"/task/{target}") for source, target in facts["volumes"]]
    binds += [(source, f"/volumes/{n}") for n, (source, _) in enumerate(hidden)]
    # Sources are opened before the stage hides part of the host's tree.
    opened = [(os.open(source, os.O_PATH | os.O_CLOEXEC), target) for source, target in binds]
    devices = [(os.open(f"/dev/{d}", os.O_PATH | os.O_CLOEXEC), f"/dev/{d}") for d in _DEVICES]
    kernel.mount("tmpfs", _STAGE, "tmpfs", _SAFE, "mode=0755,size=1m,nr_inodes=4096")
    for fd, target in opened:
        _bind(fd, _STAGE + target, _READ_ONLY)
    for fd, target in devices:
        _bind(fd, _STAGE + target, kernel.MOUNT_ATTR_NOSUID)
    for path, destination in (*facts["links"], ("/dev/fd", "/proc/self/fd")):
        os.makedirs(os.path.dirname(_STAGE + path), exist_ok=True)
        os.symlink(destination, _STAGE + path)
    for folder in ("/proc", _SCRATCH, *(target for _, target in _SCRATCH_FOLDERS)):
        os.makedirs(_STAGE + folder, exist_ok=True)
    proc = _mount_proc(_STAGE + "/proc")
    kernel.pivot_root(_STAGE)
    return Root(proc, tuple((f"/volumes/{n}", target) for n, (_, target) in enumerate(hidden)))


def seal() -> None:
    """Make the root itself read-only; mounts on it keep their own state."""
    kernel.restrict_mounts("/", _READ_ONLY, recursive=False)


def renew(size_bytes: int, again: Sequence[tuple[str, str]], steps: int) -> None:
    """A new disk for the next step, with all that lies below it back in its place."""
    if steps:
        for path in (*(target for _, target in _SCRATCH_FOLDERS), _SCRATCH):
            kernel.unmount(path)
    options = f"mode=0700,size={size_bytes},nr_inodes={_FILES_PER_DISK}"
    kernel.mount("tmpfs", _SCRATCH, "tmpfs", _SAFE, options)
    for name, target in _SCRATCH_FOLDERS:
        os.mkdir(f"{_SCRATCH}/{name}", 0o700)
        kernel.mount(f"{_SCRATCH}/{name}", target, flags=kernel.MS_BIND)
    for source, target in again:
        _place(source, target)
        kernel.mount(source, target, flags=kernel.MS_BIND | kernel.MS_REC)


def freeze(folder: str) -> None:
    """Make a folder of the disk read-only for the step that follows."""
    if os.path.isdir(folder):
        kernel.mount(folder, folder, flags=kernel.MS_BIND | kernel.MS_REC)
        kernel.restrict_mounts(folder, _READ_ONLY)


def _on_disk(target: str) -> bool:
    """Whether a path lies where the disk of a step goes: a Python below /tmp, for example."""
    return any(target.startswith(f"{folder}/") for _, folder in _SCRATCH_FOLDERS)


def _bind(fd: int, target: str, attributes: int) -> None:
    source = f"/proc/self/fd/{fd}"
    _place(source, target)
    kernel.mount(source, target, flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.restrict_mounts(target, attributes)
    os.close(fd)


def _place(source: str, target: str) -> None:
    """Make what `source` can be bound on: a folder for a folder, a file for a file."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def _mount_proc(target: str) -> bool:
    """Some hosts (a container with a masked /proc) forbid it: the step then runs without."""
    try:
        kernel.mount("proc", target, "proc", _SAFE | kernel.MS_NOEXEC)
    except PermissionError:
        return False
    return True
