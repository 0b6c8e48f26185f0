"""Bad networks for real nodes: one network namespace for each host, joined by a switch of our own.

    with Wires(3, seed=7) as wires:      # skips, or in CI fails, where it cannot be had
        network = Network(folder, 3, wires=wires)
        wires.delay(ms=40)               # each way, between all
        wires.part([0, 1], [2])          # nothing passes between the groups
        wires.cut(0, 1)                  # nothing passes from 0 to 1; from 1 to 0 it does
        wires.lose(0.02)
        wires.heal()                     # neither delay nor loss nor cut

A host sees the others through one Ethernet interface; what it sends is read by the switch, a
process of its own (this file, run as a program), which drops, delays and passes on. The kernel's
own TCP lives with that. Hosts know each other's hardware addresses from the start, so a cut
looks like a cut and not like an unknown address.

- Nothing leaves the namespaces: they have no way out, and no name that another run could meet.
- Loss is drawn from the seed, one stream for each direction.
- Clients of a node come in through `forward`: a port of this machine's loopback that the switch
  joins to the host. That way is never bad.
- All ends with the switch: it ends when its input does.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

CLONE_NEWNET = 0x4000_0000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x4004_54CA, 0x0002, 0x1000
FRAMES_A_TURN = 64


class NoWires(Exception):
    """This machine cannot have bad networks, and why."""


def address(host: int) -> str:
    return f"10.89.0.{host + 1}"


class Wires:
    """The test's side: the switch's process, and what it is told."""

    def __init__(self, hosts: int, seed: int = 0) -> None:
        self.hosts = hosts
        self._seed = seed
        self._forwards: dict[tuple[int, str], str] = {}
        self._one = Lock()  # of the threads of a test, one at a time asks

    def __enter__(self) -> "Wires":
        if os.geteuid() != 0 or shutil.which("ip") is None or not Path("/dev/net/tun").exists():
            raise NoWires("network namespaces with TAP need root, `ip` and /dev/net/tun")
        words = [sys.executable, __file__, str(self.hosts), str(self._seed)]
        pipe = subprocess.PIPE
        # A session of its own: an interrupt of the tests must not end it before its nodes.
        self._switch = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        self._namespaces: list[int] = self._answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.close()
        self._switch.stdout.close()
        self._switch.wait(100)

    # -- for the network

    def launcher(self, host: int) -> Sequence[str]:
        """What to put before a command that shall run on the host."""
        return ("nsenter", f"--net=/proc/{self._switch.pid}/fd/{self._namespaces[host]}")

    def forward(self, host: int, at: str) -> str:
        """Where clients on this machine reach what listens at `at` on the host."""
        if (host, at) not in self._forwards:
            port = self._tell("forward", host, at)
            self._forwards[host, at] = f"127.0.0.1:{port}"
        return self._forwards[host, at]

    # -- for the test

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing passes this way any more."""
        self._tell("set", [[sender, receiver]], {"cut": True})

    def part(self, *groups: Iterable[int]) -> None:
        """Nothing passes from one group to another any more."""
        found = [(a, b) for x in groups for y in groups if x is not y for a in x for b in y]
        self._tell("set", found, {"cut": True})

    def delay(self, ms: float) -> None:
        """Every frame takes so long from now on."""
        self._tell("set", self._all(), {"delay": ms / 1000})

    def lose(self, share: float) -> None:
        """Every frame is lost with this probability."""
        self._tell("set", self._all(), {"loss": share})

    def heal(self) -> None:
        """All is well again."""
        self._tell("set", self._all(), {"cut": False, "loss": 0.0, "delay": 0.0})

    def fall_silent(self, seconds: float = 1.0) -> None:
        """Returns when no frame that carries data has passed for so long. Frames that only
        acknowledge do not count."""
        self._tell("silent", seconds)

    def _all(self) -> list[tuple[int, int]]:
        return [(a, b) for a in range(self.hosts) for b in range(self.hosts) if a != b]

    def _tell(self, *words: Any) -> Any:
        assert self._switch.stdin is not None
        with self._one:
            self._switch.stdin.write(json.dumps(words) + "\n")
            self._switch.stdin.flush()
            return self._answer()

    def _answer(self) -> Any:
        assert self._switch.stdout is not None
        line = self._switch.stdout.readline()
        if not line:
            raise NoWires(f"the switch ended with exit code {self._switch.wait(100)}")
        return json.loads(line)


# -- the switch


@dataclass
class Way:
    """What happens to frames from one host to another."""

    chance: random.Random
    cut: bool = False
    loss: float = 0.0
    delay: float = 0.0  # seconds


@dataclass
class Host:
    """One namespace."""

    namespace: int
    tap: int
    ways: dict[int, Way] = field(default_factory=dict)


def _libc(name: str, *values: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _hardware(host: int) -> str:
    return f"02:00:00:00:00:{host + 1:02x}"


class Switch:
    """Reads what hosts send, and passes on what shall arrive."""

    def __init__(self, hosts: int, seed: int) -> None:
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.hosts = [self._host(i, hosts) for i in range(hosts)]
        for i, host in enumerate(self.hosts):
            for j in range(hosts):
                host.ways[j] = Way(random.Random(f"{seed}/{i}/{j}"))
        self._spoken = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._pumps: set[asyncio.Task[None]] = set()

    def _host(self, i: int, hosts: int) -> Host:
        _libc("unshare", CLONE_NEWNET)
        try:
            tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"e0", IFF_TAP | IFF_NO_PI))
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
            others = [
                f"neigh add {address(j)} lladdr {_hardware(j)} dev e0 nud permanent"
                for j in range(hosts)
                if j != i
            ]
            lines = (
                "link set lo up",
                f"link set e0 address {_hardware(i)}",
                f"addr add {address(i)}/24 dev e0",
                "link set e0 up",
                *others,
            )
            batch = ("ip", "-batch", "-")
            subprocess.run(batch, input="\n".join(lines), text=True, check=True)
            return Host(os.open("/proc/self/ns/net", os.O_RDONLY), tap)
        finally:
            _libc("setns", self._own, CLONE_NEWNET)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for i, host in enumerate(self.hosts):
            self._loop.add_reader(host.tap, self._read, i, host)

    def _read(self, sender: int, host: Host) -> None:
        for _ in range(FRAMES_A_TURN):
            try:
                frame = os.read(host.tap, 65_536)
            except BlockingIOError:
                return
            receiver = frame[5] - 1
            if frame[:5] == b"\2\0\0\0\0" and receiver in host.ways and receiver != sender:
                self._pass(host.ways[receiver], receiver, frame)

    def _pass(self, way: Way, receiver: int, frame: bytes) -> None:
        if _carries_data(frame):
            self._spoken.set()
        if way.cut or (way.loss and way.chance.random() < way.loss):
            return
        if way.delay:
            self._loop.call_later(way.delay, self._write, receiver, frame)
        else:
            self._write(receiver, frame)

    def _write(self, receiver: int, frame: bytes) -> None:
        with suppress(BlockingIOError):  # a full queue drops, as a switch does
            os.write(self.hosts[receiver].tap, frame)

    async def silence(self, seconds: float) -> None:
        """Returns when no data have passed for so long."""
        try:
            while True:
                self._spoken.clear()
                async with asyncio.timeout(seconds):
                    await self._spoken.wait()
        except TimeoutError:
            pass

    # -- clients

    async def forward(self, host: int, at: str) -> int:
        """Open a port of the machine's loopback for a port of the host; its number."""

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)
            await self._join(host, at, reader, writer)

        server = await asyncio.start_server(join, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _join(
        self, host: int, at: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name, port = at.rsplit(":", 1)
        _libc("setns", self.hosts[host].namespace, CLONE_NEWNET)
        try:
            inside = socket.socket()  # stays where it was made
        finally:
            _libc("setns", self._own, CLONE_NEWNET)
        inside.setblocking(False)
        try:
            await self._loop.sock_connect(inside, (name, int(port)))
            far_reader, far_writer = await asyncio.open_connection(sock=inside)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        except* OSError:
            pass  # the node is gone: its client sees a connection that ends
        finally:
            writer.close()
            inside.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _carries_data(frame: bytes) -> bool:
    """Whether this is TCP over IPv4 with a body."""
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return False
    head = 4 * (frame[14] & 15)
    total = int.from_bytes(frame[16:18])
    return total > head + 4 * (frame[14 + head + 12] >> 4)


async def _serve(switch: Switch) -> None:
    switch.start()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    _say([host.namespace for host in switch.hosts])
    while line := await commands.readline():
        match json.loads(line):
            case ["set", ways, values]:
                for sender, receiver in ways:
                    for name, value in values.items():
                        setattr(switch.hosts[sender].ways[receiver], name, value)
                _say(None)
            case ["forward", host, at]:
                _say(await switch.forward(host, at))
            case ["silent", seconds]:
                await switch.silence(seconds)
                _say(None)


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Switch(int(sys.argv[1]), int(sys.argv[2]))))
