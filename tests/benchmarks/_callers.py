"""Many callers at once against a network of real nodes: what each finished, and what it cost.

A caller is a chain of the SDK's futures: it begins its next piece of work when the last one is
final. All callers are one client of the first node.
"""

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

TICK = os.sysconf("SC_CLK_TCK")
WARM_UP_SECONDS = 1.5
ROLES = ["owner", "organizer", "scientist", "admin"]


def cpu_seconds(pid):
    """What a process has used of all cores since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Office:
    """A person of the first organization, with a dataset to register samples in."""

    def __init__(self, network):
        from tilth.submitting import Recorder, Submitter
        from tilth_ledger.canonical import dumps, sha256_hex
        from tilth_ledger.keys import SigningKey

        self.network = network
        self.organization = network.sites[0].organization
        self.key = SigningKey.from_seed(os.urandom(32))
        identity = {"op": "identity.add", "public": self.key.public.hex, "roles": sorted(ROLES)}
        network.submit(0, [identity])
        environment, self.dataset = self.new_key(), self.new_key()
        spec = {"python": "3.11", "requirements": ["numpy"]}
        facts = {"key": environment, "name": "numpy", "spec": spec}
        network.submit(
            0,
            [
                {"op": "environment.add", "digest": sha256_hex(dumps(spec)), **facts},
                {
                    "op": "dataset.add",
                    "key": self.dataset,
                    "name": "cases",
                    "opener": "0" * 64,
                    "environment": environment,
                },
            ],
            key=self.key,
        )
        self._submitter = Submitter(network.transport(0))
        self._recorder = Recorder(self._submitter, self.sign)

    def new_key(self):
        return f"{self.organization}/{os.urandom(16).hex()}"

    def sign(self, operations):
        return self.network.entry(0, operations, key=self.key)

    def identity(self):
        """Signs and submits an entry of its own: about 430 bytes."""
        public = os.urandom(32).hex()
        operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
        return self._submitter.submit(self.sign([operation]))

    def sample(self):
        """Registers a sample, an operation of about 330 bytes that shares an entry."""
        sample = {
            "key": self.new_key(),
            "commitment": os.urandom(32).hex(),
            "tag": os.urandom(32).hex(),
        }
        operation = {"op": "sample.add", "datasets": [self.dataset], "label": "train"}
        return self._recorder.record(({**operation, "samples": [sample]},))


class Callers:
    """So many callers, each beginning `work` again when it is done."""

    def __init__(self, work, count):
        self._work = work
        self._left = threading.Semaphore(0)
        self._count = count
        self._stop = False
        self._error = None
        self.done = 0

    def _begin(self):
        self._work().add_done_callback(self._ended)

    def _ended(self, answer):
        self._error = self._error or answer.exception()
        self.done += 1
        if self._stop or self._error:
            self._left.release()
        else:
            self._begin()

    def start(self):
        for _ in range(self._count):
            self._begin()

    def stop(self):
        self._stop = True
        for _ in range(self._count):
            self._left.acquire()
        if self._error:
            raise self._error


def measured(network, work, callers, seconds):
    """What these callers finish a second, and the CPU time of each piece, in us, at the nodes and
    at the client."""
    pids = [site.process.pid for site in network.sites]
    crowd = Callers(work, callers)
    crowd.start()
    time.sleep(WARM_UP_SECONDS)
    before, done, begun = [cpu_seconds(pid) for pid in pids], crowd.done, time.perf_counter()
    own = time.process_time()
    time.sleep(seconds)
    done, took = crowd.done - done, time.perf_counter() - begun
    own = time.process_time() - own
    nodes = sum(map(cpu_seconds, pids)) - sum(before)
    crowd.stop()
    return {"rate": done / took, "nodes_us": nodes / done * 1e6, "client_us": own / done * 1e6}
