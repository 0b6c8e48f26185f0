"""The Linux calls that an isolation is made of, by ctypes: standard library only.

Invariants
- Every failure is an OSError that names the call; nothing is skipped silently.
- No policy here: what is mounted, dropped or refused is decided by `isolation` and `seccomp`.
"""

import ctypes
import os
import struct
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 0x2
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4

_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_SETATTR: Final = 442  # the same number on every architecture
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def map_ids(outside_uid: int, outside_gid: int, inside: int) -> None:
    """In a new user namespace: the one user and group that exist in it."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {outside_uid} 1"),
        ("gid_map", f"{inside} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        f"mount {kind or 'bind'} on {target}",
    )


def restrict_mounts(target: str, attributes: int, recursive: bool = True) -> None:
    """Add mount attributes to a mount and, when `recursive`, all below it."""
    _check(
        _libc.syscall(
            _MOUNT_SETATTR,
            ctypes.c_int(_AT_FDCWD),
            target.encode(),
            ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
            struct.pack("QQQQ", attributes, 0, 0, 0),
            ctypes.c_size_t(32),
        ),
        f"mount_setattr {target}",
    )


def unmount(target: str) -> None:
    """Take a mount and all below it away now, whoever still uses it."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str) -> None:
    """Make `new`, a mount, the root; the old root disappears."""
    os.chdir(new)
    number = _PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def die_with_parent() -> None:
    """Be killed when the parent ends. That it has not ended before, the caller must check."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl PDEATHSIG")


def hide_memory(hidden: bool) -> None:
    """Whether processes of the same user are kept from tracing this one and from its /proc."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(not hidden), 0, 0, 0), "prctl DUMPABLE")


def no_new_privileges() -> None:
    """From here on no exec can gain rights."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl NO_NEW_PRIVS")


def drop_capabilities() -> None:
    """Give up every capability, for this process and all that it will start."""
    _check(_libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0), "prctl CAP_AMBIENT")  # 4: clear all
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)), "capset")


def load_seccomp(program: bytes) -> None:
    """Install a filter made by `seccomp.program`; needs `no_new_privileges` first."""
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, filter_program, 0, 0), "prctl SECCOMP")
