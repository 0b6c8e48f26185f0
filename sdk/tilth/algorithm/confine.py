"""The last walls around user code, raised by its own process before it runs a line of it.

The namespaces, capabilities and system call filter stand already (the node raised them); what is
raised here concerns one step in an isolation that other steps will use:

- limits of this process: memory, processor time, processes, open files, file size;
- Landlock: nothing is writable but /task, /tmp and /dev/shm, and no process outside this step can
  be signalled, traced or reached by an abstract socket;
- a filter that refuses signals to pid 1 and to the zygote: kernels before 6.12 have a Landlock
  that knows no signals, some have none.

Linux only; ctypes only.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Mapping, Sequence
from typing import Final

WRITABLE: Final = ("/task", "/tmp", "/dev/shm")  # noqa: S108  of the isolation, not of the host
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full")

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG: Final = 1
_EXECUTE, _WRITE, _READ, _READ_FOLDER = 1, 2, 4, 8
_MAKE_CHAR, _MAKE_BLOCK, _REFER, _TRUNCATE, _IOCTL = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38

_PR_SET_SECCOMP: Final = 22
_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# Calls whose first argument is the process that a signal, or a handle for one, is for.
_SIGNALLING: Final = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
}
_EVERYBODY: Final = -1
_LOAD, _JUMP_EQ, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # EPERM

_libc = ctypes.CDLL(None, use_errno=True)


def limit(limits: Mapping[str, int]) -> None:
    """Set the limits of one step: {"memory_bytes", "cpu_ms", "processes", "open_files",
    "file_bytes"}; a memory limit of 0 is none (GPU code maps far more than it uses)."""
    seconds = max(1, -(-limits["cpu_ms"] // 1_000))
    bounds = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if limits["memory_bytes"]:
        bounds[resource.RLIMIT_AS] = limits["memory_bytes"]
    for kind, value in bounds.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second more, so that the signal that says "processor time" comes before the last one.
        resource.setrlimit(kind, (value, value + (kind == resource.RLIMIT_CPU)))


def landlock() -> int:
    """Apply Landlock as the module says; returns its ABI, 0 where the kernel has none."""
    abi = _libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if abi < 1:
        return 0
    everything = (1 << 13) - 1
    everything |= sum(
        bit for bit, since in ((_REFER, 2), (_TRUNCATE, 3), (_IOCTL, 5)) if abi >= since
    )
    # Handled file rights, network rights (both refused whole), scopes (abstract sockets, signals).
    attributes = struct.pack("QQQ", everything, 3, 3)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _check(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    _allow(ruleset, "/", _EXECUTE | _READ | _READ_FOLDER)
    for folder in WRITABLE:
        _allow(ruleset, folder, everything & ~(_MAKE_CHAR | _MAKE_BLOCK))
    for device in DEVICES:
        _allow(ruleset, device, everything & (_WRITE | _READ | _TRUNCATE | _IOCTL))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)
    return int(abi)


def spare(pids: Sequence[int]) -> None:
    """Refuse signals to these processes, their groups, and to all processes at once."""
    spared = {value & 0xFFFFFFFF for pid in pids for value in (pid, -pid)} | {
        _EVERYBODY & 0xFFFFFFFF
    }
    index, arch = _ARCHITECTURES[os.uname().machine]
    program = _op(_LOAD, 4) + _op(_JUMP_EQ, arch, 1) + _op(_RETURN, _REFUSE) + _op(_LOAD, 0)
    for numbers in _SIGNALLING.values():
        tests = b"".join(
            _op(_JUMP_EQ, pid, len(spared) - n) for n, pid in enumerate(sorted(spared))
        )
        body = _op(_LOAD, 16) + tests + _op(_RETURN, _ALLOW) + _op(_RETURN, _REFUSE)
        program += _op(_JUMP_EQ, numbers[index], 0, len(body) // 8) + body
    program += _op(_RETURN, _ALLOW)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0))


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def hide_memory(hidden: bool) -> None:
    """Whether this process may be traced, and its /proc entries read, by its own user."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, int(not hidden), 0, 0, 0))


def _allow(ruleset: int, path: str, rights: int) -> None:
    if not os.path.exists(path):
        return
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _check(_libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0))
    os.close(fd)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
