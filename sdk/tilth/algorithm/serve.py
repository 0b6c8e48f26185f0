"""The zygote: a process that has imported an environment and forks one clean child per step.

Invariants
- It runs no line of an archive: it reads the imports in its source (as a syntax tree) and imports
  those that the environment holds, nothing else. What it imported may be as hostile as any library:
  the node trusts it for nothing but to fork, and ends it with the isolation.
- A child shares no descriptor, no random state and no limit with the next one.
- A process with threads cannot be forked safely: when the imports started any, it begins again
  without them, and every child imports for itself.

Speaks with the supervisor over descriptor 3: a line of JSON in with the log's descriptor, lines of
JSON out.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from tilth.algorithm import confine, manifest, runner

_CHANNEL: Final = 3
_ALWAYS: Final = ("numpy.random", "h5py")  # numpy loads its random numbers late
_SCORING: Final = tuple(f"tilth_metrics.{m}" for m in ("scoring", "confusion", "ranking"))
_FOLDERS: Final = ("code", "opener", "metric")
_MOST_MODULES: Final = 100


PREPARED: Final = "--serve"
PLAIN: Final = "--serve-plain"


def serve(root: Path, mode: str) -> None:
    """Import what the archives below `root` will (unless `mode` is PLAIN), then fork a child per
    request, for ever."""
    confine.hide_memory(True)
    if mode == PREPARED:
        _preload(root)
        if _threads() != 1:
            words = [PLAIN if word == PREPARED else word for word in sys.orig_argv]
            os.execv(sys.executable, words)  # noqa: S606
    os.chdir("/")  # nothing here may hold on to a step's disk, which the next step must not reach
    channel = socket.socket(fileno=_CHANNEL)
    while True:
        line, fds, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        if not line:
            return
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become_step(root, request, fds[0])
        os.close(fds[0])
        _, status, usage = os.wait4(child, 0)
        _say(
            channel,
            {
                "status": os.waitstatus_to_exitcode(status),
                "cpu_ms": int(1_000 * (usage.ru_utime + usage.ru_stime)),
                "peak_memory_bytes": usage.ru_maxrss * 1024,
            },
        )


def _become_step(root: Path, request: dict[str, Any], log: int) -> NoReturn:
    """In the child: raise the last walls, run the step, end; whatever happens, never return into
    the zygote's loop."""
    code = 1
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1 << 20)
        os.setsid()
        os.chdir(root)
        confine.hide_memory(False)
        confine.limit(request["limits"])
        confine.landlock()
        confine.spare((1, os.getppid()))
        code = runner.run(root) & 0xFF
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _preload(root: Path) -> None:
    """Import the environment's modules that the archives name; a failure shows again in the step,
    where it belongs to someone."""
    wanted = dict.fromkeys(() if _is_command(root) else _ALWAYS)
    wanted |= dict.fromkeys(_SCORING if (root / "pred").is_dir() else ())
    for folder in _FOLDERS:
        wanted |= dict.fromkeys(_imports(root / folder))
    for name in list(wanted)[:_MOST_MODULES]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    # What is loaded by now stays for ever: a child's collector need not walk, and so copy, it.
    gc.collect()
    gc.freeze()


def _is_command(root: Path) -> bool:
    """Whether the step's archive runs a program of its own instead of Python."""
    with contextlib.suppress(Exception):
        return any(manifest.read(root / folder).commands for folder in _FOLDERS)
    return False


def _imports(folder: Path) -> Iterator[str]:
    """Names of the modules that the Python files of an archive import, its own ones left out."""
    sources = sorted(folder.rglob("*.py")) if folder.is_dir() else []
    own = {path.stem for path in sources} | {path.parent.name for path in sources}
    for path in sources:
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            yield from (name for name in names if name.partition(".")[0] not in own)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0  # without /proc there is no knowing


def _say(channel: socket.socket, facts: dict[str, Any]) -> None:
    channel.sendall(json.dumps(facts).encode() + b"\n")
