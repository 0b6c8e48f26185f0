"""Nodes that are killed under load again and again; what was acknowledged is there in the end.

    make kill-loop COUNT=300        # or: python tests/end_to_end/kill_loop.py --kills 300 --seed 7

Each time one node, as many as may be missed, or all at once die by SIGKILL at a moment that chance
picks, some once more while they start. Clients at every node go on meanwhile. After every fifty
kills, and in the end: each acknowledged entry stands where it was said to stand, the history is
that of one log, all nodes hold the same ledger, the audit is clean, and nobody signed twice.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crowd import Crowd
from network import Network, same_ledger

CHECK_EVERY = 50
LONGEST_START_SECONDS = 1.5


@dataclass
class Killer:
    """Kills nodes of a network that runs."""

    network: Network
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def nodes(self) -> list[int]:
        return list(range(len(self.network.sites)))

    def strike(self, crowd: Crowd) -> None:
        """Kill some, let those who can go on do so, and start all again."""
        spare = (len(self.nodes) - 1) // 2
        name, count = self.chance.choices(
            [("one node", 1), ("all that may be missed", spare), ("all nodes", len(self.nodes))],
            [6, 2, 1],
        )[0]
        victims = self.chance.sample(self.nodes, count)
        alive = [node for node in self.nodes if node not in victims]
        crowd.wait(self.nodes, acknowledged=self.chance.randrange(3))
        for victim in victims:
            self.network.kill(victim)
            self.kills[name] += 1
        if alive:
            crowd.wait(alive, acknowledged=1)
        if self.chance.random() < 0.3:
            self._kill_while_it_starts(victims[0])
        self.network.start(*victims)

    def _kill_while_it_starts(self, victim: int) -> None:
        process = self.network.launch(victim)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.chance.uniform(0, LONGEST_START_SECONDS))
        self.network.kill(victim)
        self.kills["a node that starts"] += 1

    def check(self, crowd: Crowd) -> int:
        """All that must hold when everybody is there; how many entries the ledger has."""
        crowd.check()
        status = same_ledger(self.network, self.nodes)
        for node in self.nodes:
            told = self.network.transport(node).status()
            assert (told["alarm"], told["evidence_count"]) == ("", 0)
        return int(status["size"])


def kill_loop(folder: Path, *, nodes: int, kills: int, seed: int) -> tuple[Counter[str], int]:
    """How many kills of which kind there were, and how many entries the ledger has."""
    with Network(folder, nodes) as network:
        network.start()
        killer = Killer(network, random.Random(seed))
        size = 0
        while (done := killer.kills.total()) < kills:
            crowd = Crowd(network, killer.nodes, seed + done)
            with crowd:
                while killer.kills.total() < min(kills, done + CHECK_EVERY):
                    killer.strike(crowd)
            size = killer.check(crowd)
            network.close_clients()
            print(f"{killer.kills.total()} kills, {size} entries", file=sys.stderr, flush=True)
        return killer.kills, size


def main() -> None:
    """As many kills as asked, then a report as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kills, size = kill_loop(Path(folder), nodes=said.nodes, kills=said.kills, seed=said.seed)
    took = round(time.monotonic() - begun)
    print(json.dumps({"nodes": said.nodes, "kills": kills, "entries": size, "seconds": took}))


if __name__ == "__main__":
    main()
