"""A consortium on this machine: keys, genesis, node processes, and how well they isolate tasks.

Invariants
- Everything lies below one folder: FOLDER/<organization> is a node's folder, FOLDER/genesis.json
  names the consortium.
- Only loopback addresses, on ports that were free a moment ago.
- Whoever starts the nodes stops them: `stop` ends exactly the processes whose ids stand in
  FOLDER/nodes.json, also from another process, later.

Used by `tilth demo` and by the engine of `tilth.local()`. Making all keys in one place is what
these two do; real sites run `tilth node init` on their own.
"""

import asyncio
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tilth_ledger.errors import InvalidInput, TilthError
from tilth_ledger.genesis import Genesis
from tilth_node import config, founding
from tilth_node.clock import Clock
from tilth_node.folder import Folder, write_file
from tilth_node.runtimes import Check
from tilth_node.runtimes.sandbox import Sandbox
from tilth_node.runtimes.selftest import doctor, grade_of
from tilth_node.worker.isolation import NO_ISOLATION

GENESIS = "genesis.json"
NODES = "nodes.json"
STOP_SECONDS = 10
TILTH = (sys.executable, "-m", "tilth.cli")


@dataclass(frozen=True, slots=True)
class Running:
    """A node process that answered that it is ready."""

    organization: str
    pid: int
    client_address: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A consortium that runs, and what its self-test found."""

    running: tuple[Running, ...]
    checks: tuple[Check, ...]
    grade: str


def own_folder(folder: Path, who: str, option: str) -> Path:
    """The folder, made where it is missing. Raises InvalidInput when something lies in it."""
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(
            f"{who} wants a folder of its own",
            found=f"files in {folder}",
            expected="an empty or a new folder",
            remedy=f"Choose another one, or leave {option} out.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def begin(
    folder: Path, name: str, organizations: Sequence[str], *, data_root: Path | None = None
) -> Begun:
    """Makes and starts a consortium. How well this machine isolates tasks is tried meanwhile; where
    nothing does, tasks run as plain processes, grade D."""
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(_create_and_start, folder, name, organizations, data_root)
        checks = asyncio.run(_self_test())
        running = started.result()
    grade = grade_of(checks)
    if grade == NO_ISOLATION:
        running = _restart_unisolated(folder)
    return Begun(tuple(running), tuple(checks), grade)


def _create_and_start(
    folder: Path, name: str, organizations: Sequence[str], data_root: Path | None
) -> list[Running]:
    _create(folder, name, organizations, data_root)
    return _start(folder)


def _create(folder: Path, name: str, organizations: Sequence[str], data_root: Path | None) -> None:
    """Keys and folders of the nodes, and their genesis: what `tilth node init`, `tilth network new`
    and `tilth node join` do. Without `data_root` a node reads samples below its own data/."""
    for each, port in zip(organizations, _free_ports(len(organizations)), strict=True):
        site = founding.Site(
            organization=each,
            name=each.replace("-", " ").title(),
            peer_port=port,
            aggregates=True,
            data_roots=(data_root or folder / each / "data",),
        )
        founding.init(folder / each, site, Clock())
        _configure(folder / each, runtime="sandbox")
    files = [folder / each / "member.json" for each in organizations]
    genesis = founding.new_network(name, files, (), q=None, k=None)
    write_file(folder / GENESIS, genesis.bytes)
    for each in organizations:
        founding.join(folder / each, folder / GENESIS)


def _start(folder: Path) -> list[Running]:
    """Starts the nodes; returns when all have said that they are ready."""
    with ExitStack() as opened:
        begun = [(name, opened.enter_context(_launched(folder / name))) for name in _names(folder)]
        pids = {name: process.pid for name, process in begun}
        (folder / NODES).write_text(json.dumps({"pids": pids}), encoding="utf-8")
        return [_ready(folder / name, process) for name, process in begun]


async def _self_test() -> list[Check]:
    """What `tilth node doctor` tries."""
    sandbox = Sandbox()
    try:
        return await doctor(sandbox)
    finally:
        await sandbox.close()


def _restart_unisolated(folder: Path) -> list[Running]:
    """Starts the nodes again with plain processes as runtime: grade D, for code one trusts."""
    stop(folder)
    for name in _names(folder):
        _configure(folder / name, runtime="process", allow_unisolated=True)
    return _start(folder)


def _names(folder: Path) -> list[str]:
    members = Genesis.parse((folder / GENESIS).read_bytes()).members
    return [member.organization for member in members]


def stop(folder: Path) -> None:
    """Ends the nodes that `begin` left running; quiet when they are gone already."""
    try:
        pids = json.loads((folder / NODES).read_bytes())["pids"]
    except FileNotFoundError:
        return
    standing = [pid for name, pid in pids.items() if _holds(folder / name, pid)]
    with ThreadPoolExecutor(len(pids)) as pool:
        list(pool.map(_end, standing))
    (folder / NODES).unlink()


def _configure(folder: Path, *, runtime: str, allow_unisolated: bool = False) -> None:
    """A stated runtime, also where a container engine would be found: the same everywhere."""
    settings = replace(config.load(folder), runtime=runtime, allow_unisolated=allow_unisolated)
    write_file(folder / config.FILE, config.write(settings).encode())


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on; held together, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextmanager
def _launched(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A node process in a session of its own: Ctrl-C reaches this command, which stops it."""
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [*TILTH, "node", "run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _ready(folder: Path, process: "subprocess.Popen[str]") -> Running:
    """Waits for the line that says so, or for the end of the process."""
    for line in process.stdout or ():
        if "ready" in line:
            facts = json.loads(Folder(folder).ready.read_bytes())
            return Running(folder.name, process.pid, facts["client_address"])
    log = folder / "node.log"
    tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
    raise TilthError(f"the node of {folder.name} did not start", found=tail, remedy=f"see {log}")


def _holds(folder: Path, pid: int) -> bool:
    """Whether the process of that id is the node that runs on this folder."""
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return (folder / "lock").read_text("ascii").strip() == str(pid)
    return False  # nobody holds the lock, so the id may belong to anyone by now


def _end(pid: int) -> None:
    """Asks the process to stop and waits until it is gone; one that will not is killed."""
    process = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGTERM)
        if not select.select([process], [], [], STOP_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
            select.select([process], [], [])
    finally:
        os.close(process)
