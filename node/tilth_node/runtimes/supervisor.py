"""Pid 1 of an isolation: gives the zygote its steps, holds the limits, gathers what they leave.

Invariants
- It runs no user code and believes none: it reads files only after every process of the step has
  ended, and what it says of them comes from its own look.
- It holds no rights on the host: capabilities in its own user namespace only, to renew the disk.
- An isolation serves another step only after a clean end: exit 0 and no process left behind.
  After anything else it answers and ends, and the kernel ends whatever is left.
- It ends when the node closes the control socket.

Left to others: what the answer means for the task (`sandbox`).
"""

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from tilth_ledger import frames
from tilth_node.runtimes import kernel, outputs, rootfs, seccomp
from tilth_node.runtimes.boundedlog import BoundedLog

_CHUNK: Final = 1 << 18
_ZYGOTE_LOG_BYTES: Final = 1 << 16
_TOLD: Final = frozenset({"status", "cpu_ms", "peak_memory_bytes"})
_TOO_MUCH: Final = {"reason": "too_large", "detail": "the inputs do not fit the disk of the step"}


class Supervisor:
    """Serves steps until the control socket closes."""

    def __init__(
        self,
        control: socket.socket,
        reader: frames.Reader,
        facts: dict[str, Any],
        root: rootfs.Root,
    ) -> None:
        self._control = control
        self._reader = reader
        self._scratch_bytes = facts["scratch_bytes"]
        self._root = root
        self._steps = 0
        self._renew()
        self._zygote = Zygote(facts, root.proc)

    def serve(self) -> None:
        """Run steps; returns never."""
        while True:
            facts, fits = self._receive_step()
            rootfs.freeze("/task/in")
            if not fits:
                self._control.sendall(frames.message("ended", _TOO_MUCH))
            if not (fits and self._run(facts)):
                os._exit(0)
            self._renew()

    def _renew(self) -> None:
        rootfs.renew(self._scratch_bytes, self._root.again, self._steps)
        self._steps += 1
        os.chdir("/")

    def _receive_step(self) -> tuple[dict[str, Any], bool]:
        """Write the files of the next step below /task; returns the step's facts and whether all
        of them found room."""
        incoming = _Incoming()
        while data := self._control.recv(_CHUNK):
            for event in self._reader.feed(data):
                if isinstance(event, frames.Message):
                    return event.facts, not incoming.full
                incoming.take(event)
        os._exit(0)  # the node is gone or done with this isolation

    def _run(self, facts: dict[str, Any]) -> bool:
        """One step; True when the isolation may serve another."""
        started = time.monotonic()
        log = BoundedLog(facts["log_bytes"])
        deadline = started + facts["wall_ms"] / 1_000
        ended = self._zygote.run(facts, self._control, log, deadline)
        answer: dict[str, Any] = {**ended, "wall_ms": int(1_000 * (time.monotonic() - started))}
        clean = ended.get("status") == 0 and not self._zygote.leftovers()
        if not clean:
            _kill_all()
        self._zygote.drain(log)
        found = outputs.Found()
        if ended.get("status") == 0:
            found = outputs.look("/task", facts["outputs"], facts["output_files"])
            answer |= {"reason": found.reason, "detail": found.detail}
        text = log.text()
        self._control.sendall(frames.file_head("log", len(text)) + text)
        for path in found.files:
            self._send(path)
        answer |= {"log_cut_bytes": log.cut_bytes, "reusable": clean and not found.reason}
        self._control.sendall(frames.message("ended", answer))
        return clean and not found.reason

    def _send(self, file: outputs.OutputFile) -> None:
        """One output as frames; its size was fixed when every writer had ended."""
        self._control.sendall(frames.file_head(f"task/{file.path}", file.size, file.executable))
        fd = outputs.open_below("/task", file.path)
        left = file.size
        while left and (data := os.read(fd, min(left, _CHUNK))):
            self._control.sendall(data)
            left -= len(data)
        os.close(fd)
        if left:
            os._exit(1)  # the stream cannot be right any more


class Zygote:
    """The process that holds the imported environment and forks one child per step."""

    def __init__(self, facts: dict[str, Any], proc: bool) -> None:
        self._proc = proc
        self._socket, theirs = socket.socketpair()
        self._log, log_write = os.pipe()
        self._buffer = b""
        self._words = BoundedLog(_ZYGOTE_LOG_BYTES)
        self.pid = os.fork()
        if not self.pid:
            _become_zygote(facts, theirs, log_write)
        theirs.close()
        os.close(log_write)
        os.set_blocking(self._log, False)

    def run(
        self, facts: dict[str, Any], control: socket.socket, log: BoundedLog, deadline: float
    ) -> dict[str, Any]:
        """Fork a child for a step and wait for its end, the deadline or the zygote's own end."""
        self._step_log, write = os.pipe()
        os.set_blocking(self._step_log, False)
        request = json.dumps({"limits": facts["limits"], "seed": facts["seed"]}).encode() + b"\n"
        try:
            socket.send_fds(self._socket, [request], [write])
        except OSError:
            return self._gone(log)
        finally:
            os.close(write)
        with selectors.DefaultSelector() as selector:
            for fd in (self._socket.fileno(), self._step_log, self._log, control.fileno()):
                selector.register(fd, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    if key.fd == control.fileno():
                        os._exit(0)
                    if key.fd == self._log:
                        self._words.add(os.read(self._log, _CHUNK))
                    if key.fd == self._step_log and not self._read_log(log):
                        selector.unregister(self._step_log)
                    if key.fd == self._socket.fileno():
                        message = self._read_message()
                        if message is None:
                            return self._gone(log)
                        if "status" in message:
                            return message
        return {"reason": "time", "detail": f"not finished after {facts['wall_ms']} ms"}

    def _read_message(self) -> dict[str, Any] | None:
        """The next whole line; {} while it is not whole, None when the zygote ended."""
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionResetError:  # it ended before it read the request
            return None
        if not data or len(self._buffer) > _CHUNK:
            return None
        self._buffer += data
        line, found, rest = self._buffer.partition(b"\n")
        if not found:
            return {}
        self._buffer = rest
        try:
            message = json.loads(line)
        except ValueError:
            return None
        if not isinstance(message, dict):
            return None
        # The zygote's libraries may be hostile: numbers under known names, nothing else.
        return {name: v for name, v in message.items() if name in _TOLD and type(v) is int}

    def _read_log(self, log: BoundedLog) -> bool:
        data = os.read(self._step_log, _CHUNK)
        log.add(data)
        return bool(data)

    def drain(self, log: BoundedLog) -> None:
        """What is still in the step's pipe, once no one can write to it any more."""
        try:
            while self._read_log(log):
                pass
        except BlockingIOError:
            pass  # the zygote never took the other end
        os.close(self._step_log)

    def leftovers(self) -> bool:
        """Whether a process besides pid 1 and the zygote lives; unknown counts as yes."""
        if not self._proc:
            return True
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # an orphan that has ended is no one's leftover
        return any(
            name.isdigit() and int(name) not in (1, self.pid) for name in os.listdir("/proc")
        )

    def _gone(self, log: BoundedLog) -> dict[str, Any]:
        """The zygote ended by itself: its words are the build log of the environment."""
        _kill_all()
        with contextlib.suppress(BlockingIOError):
            self._words.add(os.read(self._log, _CHUNK))
        log.add(self._words.text())
        return {"reason": "environment", "detail": "the environment's process ended by itself"}


def _become_zygote(facts: dict[str, Any], ours: socket.socket, log: int) -> None:
    """In the forked child: give up every right, then become the environment's Python."""
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2), (ours.fileno(), 3)):
        os.dup2(source, target)
    os.closerange(4, 4096)
    os.setsid()
    _be_killed_first()
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    kernel.load_seccomp(seccomp.program(os.uname().machine))
    os.chdir("/")
    try:
        os.execve(facts["python"], facts["argv"], facts["environment"])  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{facts['python']}: {error}\n")
        os._exit(1)


def _be_killed_first() -> None:
    """When the machine runs out of memory, a step goes before anything of the host."""
    kernel.hide_memory(False)  # /proc files of a hidden process are root's
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass  # without /proc the kernel's own choice stands
    kernel.hide_memory(True)


def _kill_all() -> None:
    """End every process of the isolation but this one, at once, and wait until they are gone."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # none is left


class _Incoming:
    """The files of a step as they come from the node; once the disk is full, they are dropped."""

    def __init__(self) -> None:
        self.full = False
        self._fd = -1

    def take(self, event: frames.FileStart | frames.FileChunk) -> None:
        try:
            if isinstance(event, frames.FileStart):
                self._fd = _create(event.path, event.executable)
            elif not self.full:
                _write(self._fd, event.data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.full = True
        if isinstance(event, frames.FileChunk) and event.last and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _create(path: str, executable: bool) -> int:
    os.makedirs(os.path.dirname(f"/task/{path}"), exist_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"/task/{path}", flags, 0o755 if executable else 0o644)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
