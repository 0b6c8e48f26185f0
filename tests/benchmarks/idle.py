"""What a node costs while nothing happens: a minute without work, three members on this machine.

Messages are counted by the kernel as TCP segments on a loopback of their own: a transport keepalive
is a handful of small ones per connection in 30 s, and nothing else may be sent.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

SETTLE_SECONDS = 5
SECONDS = 60
CPU_BAR = 1.0  # percent of a core
RSS_BAR = 120.0  # MB
# Three connections, two ends, two pings a minute, each a ping, its answer and two TCP
# acknowledgements at most.
SEGMENTS_BAR = 3 * 2 * 2 * 4

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))


def cpu_seconds(pid):
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def own_loopback():
    """Move this process into a network of its own, so that only its nodes are counted."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace: cannot count messages")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sH14x", b"lo", IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, up)


def segments_sent():
    """TCP segments that carried data or an acknowledgement, since this network exists."""
    lines = [x.split() for x in Path("/proc/self/net/snmp").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "Tcp:")
    return int(values[names.index("OutSegs")])


def main():
    """Yields messages, CPU and memory per node over a minute without work."""
    own_loopback()
    from network import Network, new_identity

    with tempfile.TemporaryDirectory() as scratch, Network(Path(scratch), 3) as network:
        network.start()
        for i in range(3):
            network.submit(i, [new_identity()[1]])
        network.close_clients()
        pids = [site.ready["pid"] for site in network.sites]
        time.sleep(SETTLE_SECONDS)
        cpu = [cpu_seconds(pid) for pid in pids]
        sent = segments_sent()
        time.sleep(SECONDS)
        sent = segments_sent() - sent
        used = max(cpu_seconds(pid) - before for pid, before in zip(pids, cpu, strict=True))
        memory = max(rss_mb(pid) for pid in pids)
    percent = 100 * used / SECONDS
    yield {
        "figure": "idle: CPU of a node over a minute, share of a core",
        "value": round(percent, 2),
        "unit": "%",
        "bar": CPU_BAR,
        "holds": percent < CPU_BAR,
    }
    yield {
        "figure": "idle: memory of a node",
        "value": round(memory, 1),
        "unit": "MB",
        "bar": RSS_BAR,
        "holds": memory < RSS_BAR,
    }
    yield {
        "figure": "idle: TCP segments sent in a minute, all nodes",
        "value": sent,
        "unit": "segments",
        "bar": SEGMENTS_BAR,
        "holds": sent <= SEGMENTS_BAR,
    }
