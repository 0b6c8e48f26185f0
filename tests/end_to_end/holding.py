"""Nodes that stand still at a named point until a test lets them go on: whatever is killed, filled
or cut then, it happens exactly there.

    holds = Holds(tmp_path / "holds", organizations)
    nodes.launch(1, launcher=holds.launcher, environment=holds.environment)
    holds.arm("hospital-b", "outbox", task)   # where it will stand, and for what
    holds.wait("hospital-b")                  # it stands there now
    holds.release("hospital-b")               # or kill it

Run as a program it is the launcher: `tilth` in this process, with the functions of POINTS wrapped.
A test of the product's own code, so nothing is replaced: the wrapped function does what it does.
"""

import inspect
import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tilth_node.runtimes import docker, isolated
from tilth_node.storage import desk, ledger_store, outbox, vault
from tilth_node.worker import site

BEFORE, AFTER = "before", "after"
HELD = b"held"


@dataclass(frozen=True)
class Point:
    """A place in the life of a task: before or after a function, told apart by its arguments."""

    owner: Any
    function: str
    when: str
    what: Callable[..., str]


def _of_handle(_: Any, handle: Any) -> str:
    return str(handle.facts["collect"])  # a folder named after the task


def _of_done(_: Any, operation: Mapping[str, Any]) -> str:
    return str(operation["task"]) if operation["op"] == "task.done" else ""


POINTS: Mapping[str, Point] = {
    # The steps of a task in a container, in their order.
    "before start": Point(docker.Docker, "start", BEFORE, _of_handle),
    "running": Point(docker.Docker, "start", AFTER, _of_handle),
    "output written": Point(docker, "_gather", BEFORE, lambda handle, _: _of_handle(_, handle)),
    "collected": Point(docker.Docker, "collect", AFTER, _of_handle),
    "receipt signed": Point(site.Site, "sign", AFTER, _of_done),
    "outbox": Point(desk.Desk, "settle", AFTER, lambda _, statement: statement.task),
    "committed": Point(outbox.Outbox, "remove", BEFORE, lambda _, task, __: task),
    # What is written to disk.
    "block": Point(ledger_store.LedgerStore, "apply", BEFORE, lambda *_: "block"),
    "blob": Point(vault.Writer, "write", BEFORE, lambda w, _: "large" * (w._size > 1 << 20)),
    "log": Point(vault.Writer, "write", BEFORE, lambda _, data: "log" * data.startswith(b"== ")),
    "model": Point(
        isolated._Received, "_write", BEFORE, lambda r, *_: str(r._folder) * (r._fd >= 0)
    ),
}


class Holds:
    """The test's side: one folder with the armed point and two pipes for each organization."""

    def __init__(self, folder: Path, organizations: Sequence[str]) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        for name in organizations:
            (folder / name).mkdir(parents=True)
            for pipe in ("held", "go"):
                os.mkfifo(folder / name / pipe)
            # Also for writing: with a writer left, it does not end when a node has written.
            self._held[name] = os.open(folder / name / "held", os.O_RDWR)

    launcher = (sys.executable, str(Path(__file__)))

    @property
    def environment(self) -> Mapping[str, str]:
        return {"HOLDS": str(self._folder)}

    def arm(self, organization: str, point: str, what: str) -> None:
        """Stand still once, at this point, when it concerns `what` (a task's key)."""
        draft = self._folder / organization / "draft"
        draft.write_text(json.dumps([point, _plain(what)]))
        draft.rename(draft.with_name("armed"))

    def wait(self, organization: str) -> None:
        """Return when the node stands at the point."""
        os.read(self._held[organization], len(HELD))

    def before_ready(self, organization: str, ready: IO[str]) -> bool:
        """Whether a node that starts stands at the point before it has a line for `ready`."""
        held = self._held[organization]
        return held in select.select([held, ready], [], [])[0]

    def release(self, organization: str) -> None:
        """Let it go on."""
        (self._folder / organization / "error").unlink(missing_ok=True)
        (self._folder / organization / "go").write_bytes(b"go")

    def error(self, organization: str) -> str:
        """The first error of the function that was held before it began, then or later."""
        file = self._folder / organization / "error"
        while not file.exists():
            pass
        return file.read_text()


stood: dict[str, Path] = {}  # in the node: points that were held and have not failed since


def _plain(text: str) -> str:
    """A task's key as it stands in the names of folders."""
    return text.replace("/", "+")


def _stand(name: str, what: str) -> Path | None:
    """In the node: stand still if this is the armed point; then the folder of pipes."""
    folder = Path(os.environ["HOLDS"]) / Path(sys.argv[-1]).name
    try:
        point, wanted = json.loads((folder / "armed").read_bytes())
    except FileNotFoundError:
        return None
    if point != name or wanted not in _plain(what):
        return None
    (folder / "armed").unlink()
    (folder / "held").write_bytes(HELD)
    (folder / "go").read_bytes()
    return folder


@contextmanager
def _held(name: str, point: Point, values: Any, named: Any) -> Iterator[None]:
    if point.when == BEFORE and (folder := _stand(name, point.what(*values, **named))):
        stood[name] = folder
    try:
        yield
    except Exception as error:
        if folder := stood.pop(name, None):
            draft = folder / "error.new"
            draft.write_text(str(error))
            draft.rename(folder / "error")
        raise
    if point.when == AFTER:
        _stand(name, point.what(*values, **named))


def _wrap(name: str, point: Point) -> None:
    original = getattr(point.owner, point.function)

    def call(*values: Any, **named: Any) -> Any:
        with _held(name, point, values, named):
            return original(*values, **named)

    async def wait(*values: Any, **named: Any) -> Any:
        with _held(name, point, values, named):
            return await original(*values, **named)

    setattr(point.owner, point.function, wait if inspect.iscoroutinefunction(original) else call)


if __name__ == "__main__":
    from tilth.cli import main

    for each in POINTS.items():
        _wrap(*each)
    sys.exit(main())
