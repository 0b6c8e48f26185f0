"""Nothing that a test run started outlives it, even one that was killed."""

import os
import select
import subprocess
import sys
from pathlib import Path

from network import READY_SECONDS

RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from network import Network
with Network(Path(sys.argv[2]), 1) as network:
    network.start()
    print(network.sites[0].process.pid, flush=True)
    sys.stdin.read()
"""


def test_nodes_end_with_the_run_that_started_them(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        node = os.pidfd_open(int(run.stdout.readline()))
        run.kill()
    try:
        assert select.select([node], [], [], READY_SECONDS)[0], "the node still runs"
    finally:
        os.close(node)
