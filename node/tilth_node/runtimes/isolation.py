"""Start of an isolation: from an ordinary process to pid 1 of an empty world.

    node -> launcher -> pid 1 (`supervisor`) -> zygote -> one child per step

Invariants
- The isolation dies with the node: the launcher is killed with its parent, pid 1 with the
  launcher, and with pid 1 the kernel ends every process of its namespace.
- No user code runs in the launcher or in pid 1.
- A node that is root is not root in here: the world is built as root, then pid 1 becomes an
  unprivileged user for good, and only then gets a user namespace to renew mounts in.

Started by `sandbox` as `python -I -S`, with the control socket as standard input.
"""

import contextlib
import os
import signal
import socket
import sys
from typing import Any, Final

from tilth_ledger.frames import Bounds, Message, Reader, message
from tilth_node.runtimes import kernel, rootfs, supervisor

_WORLD: Final = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWPID
)
# What the node sends is as large as the node wants; the disk of the step is the bound.
_TRUSTED: Final = Bounds(message_bytes=1 << 26, files=1 << 20, total_bytes=1 << 60)
NOBODY: Final = 65534
NICENESS: Final = 10  # on a machine where all is busy, the node and its ledger come first


def main() -> None:
    """Build the isolation that the first message describes, then serve steps in it."""
    control = socket.socket(fileno=0)
    reader = Reader(_TRUSTED)
    facts = _first_message(control, reader)
    os.nice(NICENESS)
    kernel.die_with_parent()
    if os.getppid() != facts["parent"]:
        sys.exit("the node ended while its isolation was starting")
    root = os.geteuid() == 0
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(_WORLD if root else _WORLD | kernel.CLONE_NEWUSER)
    if not root:
        kernel.map_ids(uid, gid, NOBODY)
    told, tell = os.pipe()
    first = os.fork()
    if first:
        _watch(first, control, tell)
    os.close(tell)
    os.read(told, 1)  # nothing is written to the node before the launcher's own message
    made = _become_first(facts, root, told)
    supervisor.Supervisor(control, reader, facts, made).serve()


def _watch(first: int, control: socket.socket, tell: int) -> None:
    """As the launcher: name pid 1 as the host sees it, then wait for its end."""
    control.sendall(message("started", {"pid": first}))
    control.close()
    os.write(tell, b"1")  # and kept open: its end tells pid 1 that this process has ended
    _, status = os.waitpid(first, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _first_message(control: socket.socket, reader: Reader) -> dict[str, Any]:
    while data := control.recv(1 << 16):
        for event in reader.feed(data):
            if isinstance(event, Message) and event.verb == "isolation":
                return event.facts
    sys.exit("the node closed the control socket before it described the isolation")


def _become_first(facts: dict[str, Any], root: bool, launcher: int) -> rootfs.Root:
    """As pid 1: enter the new root, give up what rights there are, arm the dead man's switch."""
    made = rootfs.enter(facts)
    if root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        kernel.hide_memory(False)  # a change of user hides it, and id maps are written in /proc
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        kernel.map_ids(NOBODY, NOBODY, NOBODY)
    rootfs.seal()
    kernel.hide_memory(True)
    # Pid 1 gets from inside only signals that it handles; Python would handle this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A change of user clears it, so it comes last; the pipe tells whether it comes too late.
    kernel.die_with_parent()
    os.set_blocking(launcher, False)
    with contextlib.suppress(BlockingIOError):
        os.read(launcher, 1)
        os._exit(1)
    os.close(launcher)
    return made
