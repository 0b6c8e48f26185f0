"""The system calls that user code may not make: a table, and the filter made from it.

Invariants
- A deny-list: what scientific code needs is too wide for an allow-list that lasts; what is refused
  is everything that makes namespaces, mounts, traces, loads code into the kernel, keeps state
  beyond a step (System V IPC, message queues, keys) or has a history of kernel holes.
- The filter refuses every architecture but the machine's own, and x32 on x86-64.
- Sockets of the Unix family only: workers of one task may talk, nothing reaches a network.
- clone3 answers ENOSYS, so that the C library falls back to clone, whose flags can be read here.
- Calls that change another process take pid 0 (oneself) only.

Pure: bytes out. Loading is `kernel.load_seccomp`.
"""

import errno
import struct
from collections.abc import Mapping
from typing import Final

# name: (x86-64, aarch64); None where the architecture has no such call.
DENIED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # tracing and other processes' memory
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_send_signal": (424, 424),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # namespaces, mounts, roots
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "nfsservctl": (180, 42),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    # state that outlives a step
    "ioprio_set": (251, 30),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
}
# Allowed with pid 0 only: the first argument.
SELF_ONLY: Final[Mapping[str, tuple[int, int]]] = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_SETPRIORITY: Final = (141, 140)
_IOCTL: Final = (16, 29)
_PERSONALITY: Final = (135, 92)
# NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET
_NAMESPACE_FLAGS: Final = 0x7E020000
_X32_BIT: Final = 0x40000000
_AF_UNIX: Final = 1
_FCNTL: Final = (72, 25)
_REFUSED_IOCTLS: Final = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI TIOCLINUX FIOSETOWN SIOCSPGRP
_REFUSED_FCNTLS: Final = (8, 15)  # F_SETOWN F_SETOWN_EX: a signal to any process, by way of a file
_PERSONALITIES: Final = (0, 0xFFFFFFFF, 0x40000)  # default, query, no address randomization

_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NUMBER, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data


def _refuse(code: int) -> int:
    return 0x00050000 | code


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _returns(number: int, verdict: int) -> bytes:
    """A call of that number gets this verdict."""
    return _op(_JUMP_EQ, number, 0, 1) + _op(_RETURN, verdict)


def _argument(number: int, offset: int, allowed: tuple[int, ...]) -> bytes:
    """A call of that number passes only with one of these arguments."""
    tests = b"".join(_op(_JUMP_EQ, a, len(allowed) - i) for i, a in enumerate(allowed))
    return _if(number, _op(_LOAD, offset) + tests + _op(_RETURN, _refuse(errno.EPERM)) + _ALLOWED)


def _own_priority_only(number: int) -> bytes:
    """setpriority: of this process (which 0, who 0), not of its user or group."""
    tests = _op(_LOAD, _ARG0) + _op(_JUMP_EQ, 0, 0, 2) + _op(_LOAD, _ARG1) + _op(_JUMP_EQ, 0, 1)
    return _if(number, tests + _op(_RETURN, _refuse(errno.EPERM)) + _ALLOWED)


def _refused_argument(number: int, offset: int, refused: tuple[int, ...]) -> bytes:
    """A call of that number passes unless it has one of these arguments."""
    tests = b"".join(_op(_JUMP_EQ, a, len(refused) - i) for i, a in enumerate(refused))
    return _if(number, _op(_LOAD, offset) + tests + _ALLOWED + _op(_RETURN, _refuse(errno.EPERM)))


def _if(number: int, body: bytes) -> bytes:
    return _op(_JUMP_EQ, number, 0, len(body) // 8) + body


_ALLOWED: Final = _op(_RETURN, _ALLOW)


def program(machine: str) -> bytes:
    """The filter for `os.uname().machine`; KeyError for a machine that is not supported."""
    index, arch = ARCHITECTURES[machine]
    parts = [_op(_LOAD, _ARCH), _op(_JUMP_EQ, arch, 1), _op(_RETURN, _KILL), _op(_LOAD, _NUMBER)]
    if machine == "x86_64":
        parts += [_op(_JUMP_GE, _X32_BIT, 0, 1), _op(_RETURN, _refuse(errno.ENOSYS))]
    parts.append(_returns(_CLONE3[index], _refuse(errno.ENOSYS)))
    flags = _op(_LOAD, _ARG0) + _op(_JUMP_SET, _NAMESPACE_FLAGS, 1) + _ALLOWED
    parts.append(_if(_CLONE[index], flags + _op(_RETURN, _refuse(errno.EPERM))))
    parts.append(_argument(_SOCKET[index], _ARG0, (_AF_UNIX,)))
    parts.append(_argument(_SOCKETPAIR[index], _ARG0, (_AF_UNIX,)))
    parts.append(_argument(_PERSONALITY[index], _ARG0, _PERSONALITIES))
    parts.append(_refused_argument(_IOCTL[index], _ARG1, _REFUSED_IOCTLS))
    parts.append(_refused_argument(_FCNTL[index], _ARG1, _REFUSED_FCNTLS))
    parts.append(_own_priority_only(_SETPRIORITY[index]))
    parts += [_argument(numbers[index], _ARG0, (0,)) for numbers in SELF_ONLY.values()]
    for numbers in DENIED.values():
        if (number := numbers[index]) is not None:
            parts.append(_returns(number, _refuse(errno.EPERM)))
    return b"".join([*parts, _ALLOWED])
