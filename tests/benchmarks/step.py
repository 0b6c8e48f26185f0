"""What a step costs: an algorithm's start with numpy and HDF5, in a cold and in a warm sandbox.

`against` is a fork of a process that has numpy and h5py loaded: the least that a clean process per
step can cost on this machine, at this moment.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import h5py  # noqa: F401  loaded, so that the fork compares
import numpy as np  # noqa: F401

from tilth_ledger.steps import CONTRACT, Kind, Output, Step, StepLimits
from tilth_node.runtimes import Mount, StepSpec
from tilth_node.runtimes.sandbox import Sandbox

RUNS = 40
COLD_RUNS = 8
BAR_MS = 25
ALGO = """
import numpy as np
from tilth.algorithm import Algorithm

class Start(Algorithm):
    def start(self, task):
        return {"W": np.zeros((64, 10)), "b": np.zeros(10)}
"""


def fork_ms():
    """One fork, exit and wait of this process."""
    begun = time.perf_counter()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return 1_000 * (time.perf_counter() - begun)


def a_step(plan):
    """The init step of a plan."""
    facts = {"contract": CONTRACT, "step": "init", "kind": "init", "plan": plan, "task": "bench"}
    facts |= {"rank": 0, "organization": "bench", "parameters": {}, "seed": 0, "inputs": []}
    facts |= {"outputs": ["model"], "selection": {}, "features": "files", "metric": {}}
    outputs = (Output("out/model", True, 1 << 20),)
    return Step("init", Kind.INIT, (), outputs, StepLimits(), facts, "", False, (plan,))


async def step_ms(sandbox, folder, plan):
    """One step from staging to its outputs in a folder."""
    collect = Path(tempfile.mkdtemp(dir=folder))
    spec = StepSpec(a_step(plan), collect, (Mount(folder / "code", "code"),), {})
    begun = time.perf_counter()
    handle = await sandbox.stage(spec)
    await sandbox.start(handle)
    result = await sandbox.collect(handle)
    spent = 1_000 * (time.perf_counter() - begun)
    if result.reason is not None:
        raise SystemExit(f"the step failed: {result.reason} {result.log.decode()}")
    return spent


async def measure(folder):
    """(cold, warm) times in ms."""
    sandbox = Sandbox()
    cold = [await step_ms(sandbox, folder, f"plan {n}") for n in range(COLD_RUNS)]
    warm = [await step_ms(sandbox, folder, "plan 0") for _ in range(RUNS)]
    await sandbox.close()
    return cold, warm


def main():
    """Yields the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "code").mkdir()
        (folder / "code" / "algorithm.py").write_text(ALGO)
        cold, warm = asyncio.run(measure(folder))
    fork = statistics.median(fork_ms() for _ in range(RUNS))
    for name, times, bar in (("warm", warm, BAR_MS), ("cold", cold, None)):
        value = statistics.median(times)
        yield {
            "figure": f"step: {name} sandbox, median",
            "value": round(value, 1),
            "unit": "ms",
            "bar": bar,
            "holds": bar is None or value <= bar,
            "against": round(fork, 2),
            "ratio": round(value / fork, 1),
        }
