"""The system call filter, decided for both architectures by running the program itself."""

import errno
import struct

import pytest

from tilth_node.runtimes import seccomp

ALLOW, KILL = "allow", "kill"
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
THREAD_FLAGS = 0x3D0F00  # what the C library gives clone for a thread


def verdict(machine, number, *arguments, arch=None):
    """What the kernel would do: a small interpreter of classic BPF."""
    arch = arch if arch is not None else seccomp.ARCHITECTURES[machine][1]
    values = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *values)
    code = seccomp.program(machine)
    position, register = 0, 0
    while True:
        operation, yes, no, value = struct.unpack_from("<HBBI", code, 8 * position)
        position += 1
        if operation == 0x20:
            (register,) = struct.unpack_from("<I", data, value)
        elif operation == 0x06:
            return meaning(value)
        else:
            holds = {
                0x15: register == value,
                0x35: register >= value,
                0x45: bool(register & value),
            }[operation]
            position += yes if holds else no


def meaning(value):
    if value == 0x7FFF0000:
        return ALLOW
    return KILL if value == 0x80000000 else errno.errorcode[value & 0xFFFF]


MACHINES = ("x86_64", "aarch64")


def of(machine, pair):
    return pair[MACHINES.index(machine)]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(seccomp.DENIED))
def test_a_denied_call_is_refused(machine, name):
    number = of(machine, seccomp.DENIED[name])

    if number is not None:
        assert verdict(machine, number) == "EPERM"


ORDINARY = {
    "read": (0, 63),
    "write": (1, 64),
    "openat": (257, 56),
    "mmap": (9, 222),
    "futex": (202, 98),
    "execve": (59, 221),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "memfd_create": (319, 279),
    "getrandom": (318, 278),
    "landlock_restrict_self": (446, 446),
    "sched_getaffinity": (204, 123),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_an_ordinary_call_passes(machine, name):
    assert verdict(machine, of(machine, ORDINARY[name]), 5, 5) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine):
    other = MACHINES[1 - MACHINES.index(machine)]

    assert verdict(machine, 0, arch=seccomp.ARCHITECTURES[other][1]) == KILL
    assert verdict(machine, 0, arch=0x40000003) == KILL  # 32-bit x86


def test_x32_calls_do_not_exist():
    assert verdict("x86_64", 0x40000000) == "ENOSYS"
    assert verdict("x86_64", 0x40000000 + 165) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
def test_clone3_falls_back_to_clone_whose_flags_are_read(machine):
    clone = of(machine, (56, 220))

    assert verdict(machine, 435) == "ENOSYS"
    assert verdict(machine, clone, THREAD_FLAGS) == ALLOW
    assert verdict(machine, clone, 17) == ALLOW  # a plain fork
    for flag in (NEWUSER, NEWNS, NEWNET, 0x02000000, 0x04000000, 0x08000000, 0x20000000):
        assert verdict(machine, clone, flag | 17) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("pair", [(41, 198), (53, 199)])
def test_only_unix_sockets_exist(machine, pair):
    number = of(machine, pair)

    assert verdict(machine, number, 1) == ALLOW
    for family in (0, 2, 10, 16, 17, 29, 38, 40, 44):
        assert verdict(machine, number, family) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(seccomp.SELF_ONLY))
def test_calls_on_processes_take_oneself_only(machine, name):
    number = of(machine, seccomp.SELF_ONLY[name])

    assert verdict(machine, number, 0, 7) == ALLOW
    assert verdict(machine, number, 2, 7) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_priority_is_ones_own(machine):
    number = of(machine, (141, 140))

    assert verdict(machine, number, 0, 0, 5) == ALLOW
    assert verdict(machine, number, 0, 2, 5) == "EPERM"  # another process
    assert verdict(machine, number, 1, 0, 5) == "EPERM"  # the group
    assert verdict(machine, number, 2, 0, 5) == "EPERM"  # all of the user's


@pytest.mark.parametrize("machine", MACHINES)
def test_input_cannot_be_typed_into_a_terminal(machine):
    number = of(machine, (16, 29))

    assert verdict(machine, number, 0, 0x5401) == ALLOW
    assert verdict(machine, number, 0, 0x5412) == "EPERM"
    assert verdict(machine, number, 0, 0x541C) == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_file_cannot_be_made_to_signal_another_process(machine):
    fcntl, ioctl = of(machine, (72, 25)), of(machine, (16, 29))

    assert verdict(machine, fcntl, 0, 4) == ALLOW  # F_SETFL
    assert verdict(machine, fcntl, 0, 8) == "EPERM"  # F_SETOWN
    assert verdict(machine, fcntl, 0, 15) == "EPERM"  # F_SETOWN_EX
    assert verdict(machine, ioctl, 0, 0x8901) == "EPERM"  # FIOSETOWN


@pytest.mark.parametrize("machine", MACHINES)
def test_the_personality_stays(machine):
    number = of(machine, (135, 92))

    assert verdict(machine, number, 0xFFFFFFFF) == ALLOW
    assert verdict(machine, number, 0x0400000) == "EPERM"  # READ_IMPLIES_EXEC


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_fits_the_kernel(machine):
    assert len(seccomp.program(machine)) // 8 < 4_096


def test_a_machine_that_is_not_known_is_refused():
    with pytest.raises(KeyError):
        seccomp.program("riscv64")
