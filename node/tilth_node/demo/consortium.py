"""Three organizations on this machine: keys, genesis, and their node processes.

Invariants
- Everything lies below one folder: FOLDER/<organization> is a node's folder, FOLDER/genesis.json
  names the consortium.
- Only loopback addresses, on ports that were free a moment ago.
- Whoever starts the nodes stops them: `stop` ends exactly the processes whose ids stand in
  FOLDER/nodes.json, also from another process, later.

Making all keys in one place is what a demo does; real sites run `tilth node init` on their own.
"""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tilth_ledger.errors import TilthError
from tilth_node import config, founding
from tilth_node.clock import Clock
from tilth_node.folder import Folder, write_file

ORGANIZATIONS = ("hospital-a", "hospital-b", "hospital-c")
NAME = "tilth-demo"
NODES = "nodes.json"
STOP_SECONDS = 10
TILTH = (sys.executable, "-m", "tilth.cli")


@dataclass(frozen=True, slots=True)
class Running:
    """A node process that answered that it is ready."""

    organization: str
    pid: int
    client_address: str


def create(folder: Path) -> None:
    """Keys and folders of three nodes, and their genesis: what `tilth node init`, `tilth network
    new` and `tilth node join` do."""
    for name, port in zip(ORGANIZATIONS, _free_ports(len(ORGANIZATIONS)), strict=True):
        site = founding.Site(
            organization=name,
            name=name.replace("-", " ").title(),
            peer_port=port,
            aggregates=True,
            data_roots=(folder / name / "data",),
        )
        founding.init(folder / name, site, Clock())
        _configure(folder / name, runtime="sandbox")
    files = [folder / name / "member.json" for name in ORGANIZATIONS]
    genesis = founding.new_network(NAME, files, (), q=None, k=None)
    write_file(folder / "genesis.json", genesis.bytes)
    for name in ORGANIZATIONS:
        founding.join(folder / name, folder / "genesis.json")


def start(folder: Path) -> list[Running]:
    """Starts the three nodes; returns when all have said that they are ready."""
    with ExitStack() as opened:
        begun = [(name, opened.enter_context(_launched(folder / name))) for name in ORGANIZATIONS]
        pids = {name: process.pid for name, process in begun}
        (folder / NODES).write_text(json.dumps({"pids": pids}), encoding="utf-8")
        return [_ready(folder / name, process) for name, process in begun]


def restart_unisolated(folder: Path) -> list[Running]:
    """Starts the nodes again with plain processes as runtime: grade D, for code one trusts."""
    stop(folder)
    for name in ORGANIZATIONS:
        _configure(folder / name, runtime="process", allow_unisolated=True)
    return start(folder)


def stop(folder: Path) -> None:
    """Ends the nodes that `start` left running; quiet when they are gone already."""
    try:
        pids = json.loads((folder / NODES).read_bytes())["pids"]
    except FileNotFoundError:
        return
    standing = [pid for name, pid in pids.items() if _holds(folder / name, pid)]
    with ThreadPoolExecutor(len(pids)) as pool:
        list(pool.map(_end, standing))
    (folder / NODES).unlink()


def _configure(folder: Path, *, runtime: str, allow_unisolated: bool = False) -> None:
    """A stated runtime, also where a container engine would be found: the demo is the same
    everywhere."""
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
