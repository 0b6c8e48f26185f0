"""Who may keep a connection at the clients' port, so that strangers leave room for everybody else.

gRPC counts connections and knows no addresses. So this looks at the sockets of the process whenever
one came, since TLS asks for the certificate then, and ends those that are too many:

- A connection on which no good token came within 30 s.
- Of those without a token as yet, the oldest: 32 of one address, 256 in all. So half of all places
  is kept for people of the ledger, and whoever comes has time to show a token however many others
  come.
- Of those of one identity, the newest: 128.

A socket is ended by `shutdown` on a copy of its descriptor, which gRPC sees as the end of the
connection: no descriptor of its own is ever closed here. Where the system does not list the
descriptors of a process nothing is done.

Left to others: the bound of all connections and of handshakes (server.py), tokens (interceptors).
"""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import unquote

FDS = Path("/proc/self/fd")
PROOF_SECONDS = 30.0  # a handshake of 10 s and a request of 20 s
OF_ADDRESS = 32  # without a token
UNPROVEN = 256
OF_IDENTITY = 128
TOGETHER_SECONDS = 0.1  # what comes within them is looked at together

Peer = tuple[str, int]


@dataclass(slots=True)
class Connection:
    """One connection of a client, as the system shows it."""

    fd: int
    inode: str
    peer: Peer
    since: float
    identity: str = ""  # whose token came on it


def surplus(connections: Sequence[Connection], now: float) -> list[Connection]:
    """Those that are too many; `connections` in the order in which they came."""
    many = Counter[str]()
    ended = []
    for each in (each for each in connections if each.identity):
        many[each.identity] += 1
        if many[each.identity] > OF_IDENTITY:
            ended.append(each)
    kept = 0
    for each in reversed(connections):
        if each.identity:
            continue
        host = each.peer[0]
        late = now >= each.since + PROOF_SECONDS
        if late or kept >= UNPROVEN or many[host] >= OF_ADDRESS:
            ended.append(each)
        else:
            kept += 1
            many[host] += 1
    return ended


class Places:
    """Watches over the connections of one port, from `watch` to `close`."""

    def __init__(self) -> None:
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known: dict[str, Connection | None] = {}  # by inode; None: another socket
        self._proven: dict[str, str] = {}  # as gRPC names a peer -> identity
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, port: int) -> None:
        """Begin, on the running loop."""
        self._port = port
        self._loop = asyncio.get_running_loop() if FDS.is_dir() else None

    def close(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()

    def proven(self, peer: str, identity: str) -> None:
        """A good token came over the connection of `peer`, in gRPC's words."""
        self._proven[peer] = identity

    def came(self) -> None:
        """A connection was accepted; from any thread."""
        loop = self._loop
        if loop is None or self._due:
            return
        self._due = True
        with suppress(RuntimeError):  # the loop ended meanwhile, and with it the port
            loop.call_soon_threadsafe(loop.call_later, TOGETHER_SECONDS, self._look)

    def _look(self) -> None:
        self._due = False
        if self._loop is None:
            return
        now = self._loop.time()
        standing = self._standing(now)
        for each in surplus(standing, now):
            _end(each)
        ends = [each.since + PROOF_SECONDS for each in standing if not each.identity]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if left := [end for end in ends if end > now]:
            self._timer = self._loop.call_at(min(left), self._look)

    def _standing(self, now: float) -> list[Connection]:
        """The port's connections, the oldest first, with what is known of them."""
        open_now = {inode: fd for fd, inode in _sockets()}
        known = {inode: each for inode, each in self._known.items() if inode in open_now}
        for inode, fd in open_now.items():
            if inode not in known:
                peer = _peer(fd, inode, self._port)
                known[inode] = None if peer is None else Connection(fd, inode, peer, now)
        self._known = known
        standing = [each for each in known.values() if each is not None]
        names = {_parsed(name): name for name in self._proven}
        for each in standing:
            if each.peer in names:
                each.identity = self._proven[names[each.peer]]
        live = {each.peer for each in standing}
        self._proven = {name: self._proven[name] for peer, name in names.items() if peer in live}
        return standing


def _sockets() -> Iterator[tuple[int, str]]:
    for name in os.listdir(FDS):
        inode = _inode(int(name))
        if inode.startswith("socket:"):
            yield int(name), inode


def _inode(fd: int) -> str:
    try:
        return os.readlink(FDS / str(fd))
    except OSError:  # closed meanwhile
        return ""


@contextmanager
def _copied(fd: int, inode: str) -> Iterator[socket.socket | None]:
    """The socket behind a descriptor, if it is still that one."""
    try:
        copy = os.dup(fd)
    except OSError:
        copy = -1
    if copy < 0 or _inode(copy) != inode:
        if copy >= 0:
            os.close(copy)
        yield None
        return
    with socket.socket(fileno=copy) as found:
        yield found


def _peer(fd: int, inode: str, port: int) -> Peer | None:
    """Who is at the other end of an accepted connection of the port; of another socket, None."""
    with _copied(fd, inode) as found, suppress(OSError):
        if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        if found.type == socket.SOCK_STREAM and found.getsockname()[1] == port:
            host, far = found.getpeername()[:2]  # a listener has none
            return _plain(host), far
    return None


def _end(connection: Connection) -> None:
    with _copied(connection.fd, connection.inode) as found, suppress(OSError):
        if found is not None:
            found.shutdown(socket.SHUT_RDWR)


def _parsed(name: str) -> Peer:
    """The peer that gRPC names `ipv4:1.2.3.4:5` or `ipv6:%5B::1%5D:5`."""
    host, _, port = unquote(name).partition(":")[2].rpartition(":")
    return _plain(host.strip("[]")), int(port)


def _plain(host: str) -> str:
    """One form of an address, however the system or gRPC writes it."""
    found = ip_address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found)
