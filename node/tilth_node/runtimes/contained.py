"""Pid 1 of a step's container: runs the step, holds its time, keeps what it declared.

    /volumes/step/step.json, files/   from the node
    /task                             where the step works: a memory disk of limited size
    /volumes/step/out                 for the node: task/ (declared outputs), log, end.json

Invariants
- It outlives the node: the time limit holds and the result waits in the volume.
- The step itself cannot write to /volumes (its own process gave that right up, see
  `tilth.algorithm.confined`), so that its disk is bounded and `end.json` is this process's word.
- Outputs are looked at only after every process of the step has ended; `end.json` comes last.

Started by `docker` as `python -m`; needs the standard library and `tilth_ledger` only.
"""

import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tilth_node.runtimes import kernel, outputs
from tilth_node.runtimes.boundedlog import BoundedLog

_STEP: Final = Path("/volumes/step")
_TASK: Final = "/task"
_CHUNK: Final = 1 << 16
_COPIED: Final = ("local",)  # what a step may change; all else it reads is linked


def main() -> None:
    """Run the step; the exit code is 0 whenever `end.json` says what became of it."""
    kernel.hide_memory(True)
    facts = json.loads((_STEP / "step.json").read_bytes())
    _lay_out(_STEP / "files")
    log = BoundedLog(facts["log_bytes"])
    started = time.monotonic()
    end = _run(facts, log, started + facts["wall_ms"] / 1_000)
    found = outputs.Found()
    if end["status"] == 0:
        found = outputs.look(_TASK, facts["outputs"], facts["output_files"])
        end |= {"reason": found.reason, "detail": found.detail}
    for file in found.files:
        _keep(file)
    end |= {"wall_ms": int(1_000 * (time.monotonic() - started)), "log_cut_bytes": log.cut_bytes}
    (_STEP / "out" / "log").write_bytes(log.text())
    (_STEP / "out" / "end.json").write_text(json.dumps(end), encoding="ascii")


def _lay_out(files: Path) -> None:
    """Put what the node sent where the step looks for it."""
    for item in files.iterdir() if files.is_dir() else ():
        if item.name in _COPIED:
            shutil.copytree(item, f"{_TASK}/{item.name}")
        else:
            os.symlink(item, f"{_TASK}/{item.name}")


def _run(facts: dict[str, Any], log: BoundedLog, deadline: float) -> dict[str, Any]:
    """Run the step's process until its end or the deadline; nothing of it is left then."""
    pipe, log_end = os.pipe()
    child = os.fork()
    if not child:
        # Forked, not started anew: one interpreter less per step. The node never imports the SDK.
        if facts["filter"]:
            _filter_calls()
        confined = import_module("tilth.algorithm.confined")
        confined.become(log_end, facts["limits"], Path(_TASK))
    os.close(log_end)
    os.set_blocking(pipe, False)
    in_time = _watch(child, pipe, log, deadline)
    status = _end_all(child)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(pipe, _CHUNK):
            log.add(data)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "status": status if in_time else None,
        "reason": "" if in_time else "time",
        "detail": "" if in_time else f"not finished after {facts['wall_ms']} ms",
        "cpu_ms": int(1_000 * (usage.ru_utime + usage.ru_stime)),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
    }


def _filter_calls() -> None:
    """The filter, where the engine cannot load it: from here on, for the step and its children."""
    seccomp = import_module("tilth_node.runtimes.seccomp")
    kernel.no_new_privileges()
    kernel.load_seccomp(seccomp.program(os.uname().machine))


def _watch(pid: int, pipe: int, log: BoundedLog, deadline: float) -> bool:
    """Take the log until the step's first process ends: True; False when time is over."""
    ended = os.pidfd_open(pid)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ready = [key.fd for key, _ in selector.select(left)]
            if ended in ready:
                return True
            if ready:
                data = os.read(pipe, _CHUNK)
                log.add(data)
                if not data:
                    selector.unregister(pipe)
    return False


def _end_all(first: int) -> int:
    """End every process of the container but this one; the exit code of the step's first."""
    code = 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == first:
                code = os.waitstatus_to_exitcode(status)
    return code


def _keep(file: outputs.OutputFile) -> None:
    """Copy one declared output to where the node finds it."""
    target = _STEP / "out" / "task" / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(outputs.open_below(_TASK, file.path), "rb") as source, target.open("xb") as out:
        shutil.copyfileobj(source, out, _CHUNK)
    target.chmod(0o755 if file.executable else 0o644)


if __name__ == "__main__":
    main()
