"""An etcd of three members on this machine, and puts of 400 bytes from many callers.

The members sync every write (etcd's default) and speak without TLS; the client is grpcio's asyncio
client in a process of its own, with requests encoded by hand, so that nothing of it is slower than
it must be. All puts go to the leader.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

MISSING = "no etcd on this machine: apt-get install etcd-server etcd-client"
VALUE_BYTES = 400
CALLERS_PER_CHANNEL = 64
READY_SECONDS = 30


def is_here():
    """Whether etcd and its client are installed."""
    return bool(shutil.which("etcd") and shutil.which("etcdctl"))


class Cluster:
    """Three running members."""

    def __init__(self, folder, free_port):
        folder.mkdir()
        self.names = [f"m{i}" for i in range(3)]
        self.clients = [f"http://127.0.0.1:{free_port()}" for _ in self.names]
        peers = [f"http://127.0.0.1:{free_port()}" for _ in self.names]
        every = ",".join(f"{name}={peer}" for name, peer in zip(self.names, peers, strict=True))
        self.processes = []
        for name, peer, client in zip(self.names, peers, self.clients, strict=True):
            with (folder / f"{name}.log").open("w") as log:
                command = ["etcd", "--name", name, "--data-dir", str(folder / name)]
                command += ["--initial-cluster", every, "--initial-cluster-state", "new"]
                command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
                command += ["--listen-client-urls", client, "--advertise-client-urls", client]
                command += ["--logger", "zap", "--log-level", "warn"]
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    def leader(self):
        """The address of the leader, once there is one."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            for status in self._statuses():
                if status["Status"].get("leader") == status["Status"]["header"]["member_id"]:
                    return status["Endpoint"].split("//")[-1]
        raise TimeoutError("etcd has no leader")

    def _statuses(self):
        asked = subprocess.run(
            ["etcdctl", "--endpoints", ",".join(self.clients), "endpoint", "status", "-w", "json"],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
        )
        return json.loads(asked.stdout) if asked.returncode == 0 else []

    def puts(self, callers, seconds):
        """Puts a second, and what the client's process used of a core."""
        command = [sys.executable, str(Path(__file__)), self.leader(), str(callers), str(seconds)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def encoded(key, value):
    """A PutRequest."""
    return b"\x0a" + length(key) + key + b"\x12" + length(value) + value


def length(data):
    size = len(data)
    return bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])


async def load(address, callers, seconds):
    """Puts from so many callers at once, each in turn."""
    import grpc

    value = os.urandom(VALUE_BYTES)
    options = [("grpc.use_local_subchannel_pool", 1)]
    count = max(1, callers // CALLERS_PER_CHANNEL)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    calls = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
    for call in calls:
        await call(encoded(b"warm", value))
    done, begun, used = 0, time.perf_counter(), time.process_time()

    async def caller(number):
        nonlocal done
        call, turn = calls[number % count], 0
        while time.perf_counter() - begun < seconds:
            turn += 1
            await call(encoded(b"%d-%d" % (number, turn), value))
            done += 1

    await asyncio.gather(*map(caller, range(callers)))
    took = time.perf_counter() - begun
    used = time.process_time() - used
    for channel in channels:
        await channel.close()
    return {"rate": done / took, "client_us": used / done * 1e6}


if __name__ == "__main__":
    address, callers, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(load(address, int(callers), float(seconds)))))
