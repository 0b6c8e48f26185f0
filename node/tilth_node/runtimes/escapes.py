"""Attempts to break out, made for real by the code of a step. Standard library only.

The self-test packs this file and `overuse` beside it (attempts to take more than the step was
given) as an archive and runs it as any hostile step: `attempts.json` in the task folder says what
to aim at, `findings.json` says how each attempt ended. An attempt is one function; it returns what
it reached (a failure of the isolation) or raises what stopped it.

Invariant: an attempt that succeeds does no harm, also where there is no isolation at all: it reads,
it changes only what is below the task folder, or it happens in a child that ends at once. What it
made is removed again.
"""

import contextlib
import ctypes
import errno
import importlib.util
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

Aim = Mapping[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
# Where engines listen, and programs that give their owner's rights to whoever runs them.
_ENGINES = (
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
)
_GIVERS = ("/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/mount")
_ELSEWHERE = (
    *("/", "/usr", "/etc", "/root", "/proc", "/dev", "/run", "/var/tmp", "/sys/fs/cgroup"),  # noqa: S108
    *("/volumes", "/volumes/step", "/volumes/step/out", "/opt/tilth", "/task/code"),
)
# x86-64, aarch64
_CALLS = {
    "ptrace": (101, 117),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "process_vm_readv": (310, 270),
    "shmget": (29, 194),
}


def _call(name: str, *arguments: Any) -> str:
    """A system call; stopped only if the kernel refuses the call itself, not its arguments."""
    number = _CALLS[name][os.uname().machine == "aarch64"]
    result = _libc.syscall(number, *arguments)
    code = ctypes.get_errno() if result < 0 else 0
    if code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    return f"{name} was answered"


def _check(result: int, reached: str) -> str:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return reached


def _in_child(attempt: Callable[[], object], reached: str) -> str:
    """Try what would change this process for good in one that ends."""
    child = os.fork()
    if not child:
        code = 1
        try:
            attempt()
            code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))
    return reached


def read_accounts(aim: Aim) -> str:
    with open("/etc/passwd", encoding="utf-8") as file:
        return f"read {len(file.read())} characters"


def list_home(aim: Aim) -> str:
    names = os.listdir(aim["home"])
    foreign = [name for name in names if name not in aim["visible_in_home"]]
    if not foreign:
        raise FileNotFoundError("nothing there but what Python needs")
    return f"saw {len(foreign)} entries"


def read_secret(aim: Aim) -> str:
    with open(aim["secret"], encoding="utf-8") as file:
        return file.read()


def write_outside(aim: Aim) -> str:
    for folder in _ELSEWHERE:
        try:
            with open(f"{folder}/tilth-self-test", "x", encoding="utf-8"):
                os.unlink(f"{folder}/tilth-self-test")
                return f"wrote into {folder}"
        except OSError:
            continue
    raise PermissionError("no folder could be written")


def make_device(aim: Aim) -> str:
    path = f"{aim['root']}/disk"
    os.mknod(path, 0o60600, os.makedev(254, 0))
    os.unlink(path)
    return "made a device"


def open_network_socket(aim: Aim) -> str:
    socket.socket(socket.AF_INET).close()
    return "opened one"


def see_network_cards(aim: Aim) -> str:
    cards = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    if not cards:
        raise FileNotFoundError("none but its own loopback")
    return f"saw {', '.join(cards)}"


def find_engine(aim: Aim) -> str:
    """A socket of an engine, by name, or among what is mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounted = [line.split()[1] for line in file]
    inside = (f"{at}/{name}" for at in mounted if at not in ("/", "/proc") for name in _names(at))
    for path in (aim.get("engine") or "/none", *_ENGINES, *mounted, *inside):
        if _is_socket(path):
            return f"found {path}"
    raise FileNotFoundError("no socket anywhere")


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _is_socket(path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False


def connect_to_host(aim: Aim) -> str:
    socket.create_connection(("127.0.0.1", aim["port"]), 2).close()
    return "connected"


def connect_to_host_by_name(aim: Aim) -> str:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect("\0" + aim["socket"])
    return "connected"


def see_host_processes(aim: Aim) -> str:
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    if len(seen) <= 4:
        raise PermissionError(f"only {len(seen)} of its own isolation")
    return f"saw {len(seen)} processes"


def signal_node(aim: Aim) -> str:
    os.kill(aim["node"], 0)
    return "reached the node"


def signal_parent(aim: Aim) -> str:
    os.kill(os.getppid(), 0)
    return "reached the parent"


def signal_first(aim: Aim) -> str:
    os.kill(1, 0)
    return "reached pid 1"


def read_parent_memory(aim: Aim) -> str:
    with open(f"/proc/{os.getppid()}/mem", "rb"):
        return "opened it"


def trace_parent(aim: Aim) -> str:
    return _call("ptrace", 16, os.getppid(), None, None)


def mount_disk(aim: Aim) -> str:
    target = f"{aim['root']}/mount"
    os.makedirs(target, exist_ok=True)
    _check(_libc.mount(b"tmpfs", target.encode(), b"tmpfs", 0, None), "mounted")
    return _check(_libc.umount2(target.encode(), 2), "mounted a disk")


def leave_root(aim: Aim) -> str:
    return _in_child(lambda: os.chroot(aim["root"]), "changed the root")


def make_namespace(aim: Aim) -> str:
    reached = "became root of a user namespace"
    return _in_child(lambda: _check(_libc.unshare(0x10000000), reached), reached)


def become_root(aim: Aim) -> str:
    return _in_child(lambda: os.setuid(0), "became root")


def gain_rights_by_a_program(aim: Aim) -> str:
    """Run a program that belongs to root and asks for root's rights."""
    program = next((path for path in _GIVERS if _gives(path)), None)
    if program is None:
        raise FileNotFoundError("no program that gives rights")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    child = subprocess.Popen([program, "--help"], **quiet)  # type: ignore[call-overload]
    try:
        # What it had stays to be read until it is waited for; earlier it may not have it yet.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with open(f"/proc/{child.pid}/status", encoding="ascii") as file:
            user = next(line.split()[2] for line in file if line.startswith("Uid:"))
    finally:
        child.wait()
    if user != "0":
        raise PermissionError(f"{program} ran as {user}")
    return f"{program} ran as root"


def _gives(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.stat(path).st_mode & stat.S_ISUID)
    return False


def run_what_it_wrote(aim: Aim) -> str:
    path = f"{aim['root']}/program"
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\n")
    os.chmod(path, 0o700)
    try:
        subprocess.run([path], check=False)
    finally:
        os.unlink(path)
    return "ran a program of its own"


def keep_rights(aim: Aim) -> str:
    """Capabilities, no-new-privileges and the filter, as the kernel states them."""
    with open("/proc/self/status", encoding="ascii") as file:
        facts = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    wrong = [n for n in ("CapEff", "CapPrm", "CapBnd", "CapAmb") if int(facts[n], 16)]
    wrong += [n for n, right in (("NoNewPrivs", "1"), ("Seccomp", "2")) if facts[n] != right]
    if not wrong:
        raise PermissionError("no capabilities, no new privileges, filtered calls")
    return f"wrong: {', '.join(wrong)}"


def load_into_kernel(aim: Aim) -> str:
    return _call("bpf", 0, ctypes.create_string_buffer(128), 72)


def use_keys(aim: Aim) -> str:
    return _call("keyctl", 0, -4, 0)


def use_io_uring(aim: Aim) -> str:
    return _call("io_uring_setup", 8, ctypes.create_string_buffer(128))


def use_userfaultfd(aim: Aim) -> str:
    return _call("userfaultfd", 1)


def watch_performance(aim: Aim) -> str:
    return _call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0)


def share_memory_for_ever(aim: Aim) -> str:
    return _call("shmget", 4711, 0, 0)  # looks for a segment and makes none


ATTEMPTS: Mapping[str, Callable[[Aim], str]] = {
    attempt.__name__: attempt
    for attempt in (
        read_accounts,
        list_home,
        read_secret,
        write_outside,
        make_device,
        open_network_socket,
        see_network_cards,
        find_engine,
        connect_to_host,
        connect_to_host_by_name,
        see_host_processes,
        signal_node,
        signal_parent,
        signal_first,
        read_parent_memory,
        trace_parent,
        mount_disk,
        leave_root,
        make_namespace,
        become_root,
        gain_rights_by_a_program,
        run_what_it_wrote,
        keep_rights,
        load_into_kernel,
        use_keys,
        use_io_uring,
        use_userfaultfd,
        watch_performance,
        share_memory_for_ever,
    )
}


def all_attempts() -> Mapping[str, Callable[[Aim], str]]:
    """Those of this file and of the one beside it, wherever the two lie."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "overuse.py")
    spec = importlib.util.spec_from_file_location("overuse", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {**ATTEMPTS, **module.ATTEMPTS}


def main(root: str) -> None:
    """Make every attempt; write {name: [stopped, words]}."""
    with open(f"{root}/attempts.json", encoding="utf-8") as file:
        aim = {**json.load(file), "root": root}
    findings = {}
    for name, attempt in all_attempts().items():
        try:
            findings[name] = (False, attempt(aim))
        except (OSError, MemoryError) as error:
            findings[name] = (True, f"{type(error).__name__}: {error}".rstrip(": "))
    with open(f"{root}/findings.json", "w", encoding="utf-8") as file:
        json.dump(findings, file)


if __name__ == "__main__":
    main(os.environ["TILTH_TASK"])
    sys.exit(0)
