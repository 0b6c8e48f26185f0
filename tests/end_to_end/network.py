"""Networks of real node processes for tests: made, started, killed, asked.

    with Network(tmp_path, members=3) as network:   # or the fixture `networks`
        network.start()                             # all; or start(1)
        receipt = network.submit(0, [operation])    # signed by that organization's admin
        network.kill(1)                             # SIGKILL, as a crash does
        network.start(1)

Organizations are hospital-a, hospital-b, ...; the last `followers` of them have no vote. Each node
is a process of its own on loopback, or with `wires` on a host of its own behind a bad network, with
real TLS and real syncs. `launcher` replaces `python -m tilth.cli`, for tests that wrap calls.
"""

import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import wires as bad

from tilth.errors import Unknown
from tilth.transport import Receipt, Transport
from tilth.verifier import verify
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import write_entry
from tilth_node import auditing, founding, keystore
from tilth_node.clock import Clock

PORTS = 200  # of one process
MOST_PORTS = 12_000  # of all
READY_SECONDS = 600  # no test is about this time: what never comes fails then
PATIENCE = 30  # calls of up to 20 seconds: a loaded machine may need more than one
Facts = dict[str, Any]
LAUNCHER = (sys.executable, "-m", "tilth.cli")
if os.environ.get("SLOW_EARS"):  # tests that outrun their nodes are found so
    LAUNCHER = (sys.executable, str(Path(__file__).with_name("slow_ears.py")))
# The kernel kills the node when the thread that started it ends, however that comes: nothing of a
# test run that was killed goes on.
LEASHED = ("setpriv", "--pdeathsig", "KILL", "--")


def free_port() -> int:
    """A port outside the range that the system hands out for outgoing connections, which no other
    process takes here: not before its node listens, nor while that node is away."""
    for port in _own_ports():
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@functools.cache
def _own_ports() -> Iterator[int]:
    """Ports of this process alone, for as long as it lives: it holds a name that, as a port, is
    there once on a machine, whoever runs tests and wherever their files are."""
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = min(outgoing, 32_000) if outgoing > 5_000 else 32_000  # on some machines it is all ports
    for first in range(max(2_000, end - MOST_PORTS), end - PORTS + 1, PORTS):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0tilth-test-ports-{first}")
        except OSError:
            name.close()
        else:
            name.detach()  # it stays open
            return itertools.cycle(range(first, first + PORTS))
    raise AssertionError("all ports are taken: see `ss -xa | grep tilth-test-ports`")


@dataclass
class Site:
    """One organization: its folder, and its process while it runs."""

    organization: str
    folder: Path
    process: "subprocess.Popen[str] | None" = None
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """What the node has logged so far."""
        return (self.folder / "node.log").read_text("utf-8", "replace")


class Network:
    """A consortium below one folder."""

    def __init__(
        self,
        folder: Path,
        members: int = 3,
        *,
        followers: int = 0,
        aggregates: bool = True,
        data_roots: Sequence[Path] = (),
        dial_only: Sequence[int] = (),
        settings: str = "",
        public: bool = False,
        arguments: Sequence[str] = (),
        wires: bad.Wires | None = None,
    ) -> None:
        self.arguments = tuple(arguments)  # of `tilth node run`
        self.wires = wires
        names = [f"hospital-{chr(ord('a') + i)}" for i in range(members + followers)]
        self.sites = [Site(name, folder / name) for name in names]
        self._transports: list[Transport] = []
        for i, site in enumerate(self.sites):
            made = founding.Site(
                organization=site.organization,
                name=site.organization.replace("-", " ").title(),
                host="127.0.0.1" if wires is None else bad.address(i),
                peer_port=None if i in dial_only else free_port(),
                aggregates=aggregates,
                data_roots=tuple(data_roots),
            )
            founding.init(site.folder, made, Clock())
            # Checkers of linearizability read far more often than people may.
            file = site.folder / "node.toml"
            text = file.read_text().replace("linear_reads = 2\n", "linear_reads = 10000\n")
            file.write_text(text + settings)
        files = [site.folder / "member.json" for site in self.sites]
        voting, others = files[:members], files[members:]
        self.genesis: Genesis = founding.new_network(
            "test-network", voting, others, q=None, k=None, public=public
        )
        self.genesis_file = folder / "genesis.json"
        self.genesis_file.write_bytes(self.genesis.bytes)
        for site in self.sites:
            founding.join(site.folder, self.genesis_file)

    def newcomer(self, name: str) -> int:
        """One more site, which the genesis does not list; its number."""
        site = Site(name, self.genesis_file.parent / name)
        self.sites.append(site)
        made = founding.Site(organization=name, name=name.title(), peer_port=free_port())
        founding.init(site.folder, made, Clock())
        founding.join(site.folder, self.genesis_file, newcomer=True)
        return len(self.sites) - 1

    def __enter__(self) -> "Network":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_clients()
        for i, site in enumerate(self.sites):
            if site.process is not None:
                self.kill(i)

    # -- processes

    def launch(
        self,
        i: int,
        *,
        launcher: Sequence[str] = LAUNCHER,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start the process of one node, and do not wait for it."""
        site = self.sites[i]
        assert site.process is None, f"{site.organization} runs already"
        inside = () if self.wires is None else self.wires.launcher(i)
        with (site.folder / "node.log").open("ab") as log:
            site.process = subprocess.Popen(
                [*inside, *LEASHED, *launcher, "node", "run", str(site.folder), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        return site.process

    def wait_ready(self, i: int) -> bool:
        """Wait until a launched node serves; False when it ended instead."""
        site = self.sites[i]
        assert site.process is not None
        assert site.process.stdout is not None
        line = site.process.stdout.readline()
        if not line:
            site.process.stdout.close()
            site.process.wait()
            site.process = None
            return False
        site.ready = json.loads((site.folder / "run" / "ready.json").read_bytes())
        return True

    def start(self, *which: int) -> None:
        """Start the nodes named, or all that do not run; returns when they serve."""
        idle = [i for i, site in enumerate(self.sites) if site.process is None]
        chosen = which or idle
        for i in chosen:
            self.launch(i)
        for i in chosen:
            assert self.wait_ready(i), self.sites[i].log

    def kill(self, i: int) -> None:
        """End a node as a crash does."""
        self._end(i, signal.SIGKILL)

    def stop(self, i: int) -> int:
        """Ask a node to stop; its exit code."""
        return self._end(i, signal.SIGTERM)

    def ended(self, i: int) -> int:
        """Wait until a node has ended by itself; its exit code."""
        return self._end(i, None)

    def _end(self, i: int, how: signal.Signals | None) -> int:
        site = self.sites[i]
        process, site.process = site.process, None
        assert process is not None, f"{site.organization} does not run"
        if how is not None:
            process.send_signal(how)
        code = process.wait(READY_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        return code

    # -- clients

    def admin(self, i: int) -> SigningKey:
        """The key of the organization's first identity."""
        return keystore.load_admin(self.sites[i].folder / "keys")

    def transport(self, i: int, key: SigningKey | None = None) -> Transport:
        """A new connection to a node's clients' port, by its admin or by `key`."""
        site = self.sites[i]
        transport = Transport(
            self.client_address(i),
            site.organization,
            self.genesis.net,
            key or self.admin(i),
            keystore.authorities(site.folder / "keys"),
        )
        self._transports.append(transport)
        return transport

    def client_address(self, i: int) -> str:
        """Where clients on this machine reach a node."""
        at = str(self.sites[i].ready["client_address"])
        return at if self.wires is None else self.wires.forward(i, at)

    def close_clients(self) -> None:
        """Close all connections to nodes' clients' ports."""
        while self._transports:
            self._transports.pop().close()

    def entry(self, i: int, operations: Sequence[dict[str, Any]], **more: Any) -> bytes:
        """An entry by the organization's admin, encoded."""
        nonce = os.urandom(16).hex()
        leaf = write_entry(
            self.genesis.net,
            self.sites[i].organization,
            more.pop("key", None) or self.admin(i),
            nonce,
            operations,
            **more,
        )
        return leaf.encode()

    def submit(self, i: int, operations: Sequence[dict[str, Any]], **more: Any) -> Receipt:
        """Sign operations as the organization's admin and submit them to its node."""
        return self.transport(i).submit(self.entry(i, operations, **more))


def has_reached(client: Transport, size: int) -> dict[str, Any]:
    """The node's status once it holds that many entries: it answers when it does."""
    for _ in range(PATIENCE):
        try:
            client.get_row("organization/hospital-a", at_least=size)
        except Unknown:  # not within the time of one call
            continue
        return client.status()
    raise AssertionError(f"the node does not come to {size} entries: {client.status()}")


def everywhere(network: Network, nodes: Sequence[int]) -> list[dict[str, Any]]:
    """Wait until what one of these nodes holds by now is on all, as each hears in its own time
    what is final; their statuses."""
    clients = [network.transport(i) for i in nodes]
    size = max(client.status()["size"] for client in clients)
    return [has_reached(client, size) for client in clients]


def same_ledger(network: Network, nodes: Sequence[int]) -> dict[str, Any]:
    """All these nodes hold the same leaves, root and rows, and each proves them to an audit; the
    status of the last."""
    clients = [network.transport(i) for i in nodes]
    statuses = everywhere(network, nodes)
    while len({each["size"] for each in statuses}) > 1:  # something became final meanwhile
        statuses = everywhere(network, nodes)
    assert len({(s["size"], s["root"], s["digest"]) for s in statuses}) == 1
    assert len({tuple(client.leaves(0, 1000)) for client in clients}) == 1
    audit(network, *nodes)
    return statuses[-1]


def cosigned(network: Network, i: int, index: int, wanted: Facts, since: int = 0) -> Facts:
    """What a stranger reads in a node's proof of an entry when the facts `wanted` are among it: a
    node gives what it has when the signatures of others do not come within seconds."""
    client = network.transport(i)
    has_reached(client, index + 1)
    for _ in range(PATIENCE):
        report = verify(client.prove(index, since=since), network.genesis.bytes)
        assert report.ok, report.refusal
        if wanted.items() <= report.facts.items():
            break
    assert {name: report.facts[name] for name in wanted} == wanted
    return dict(report.facts)


def audit(network: Network, *which: int) -> None:
    """The ledgers of these nodes (or all), verified again from their folders, are clean."""
    for i in which or range(len(network.sites)):
        report = auditing.audit(network.sites[i].folder, network.genesis.net)
        assert report.clean, "\n".join(str(each) for each in report.findings)


def new_identity(role: str = "scientist") -> tuple[SigningKey, dict[str, Any]]:
    """A key, and the operation by which an admin adds it."""
    key = SigningKey.from_seed(os.urandom(32))
    return key, {"op": "identity.add", "public": key.public.hex, "roles": [role]}
