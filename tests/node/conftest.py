"""What tests of a node share: a laboratory for the sandbox (write an algorithm, run it as a step,
look at what became of it), three sites, and nodes that cosign."""

import tempfile
from pathlib import Path

import pytest
from cosigning_net import Net
from three_sites import three_sites

from tilth_ledger.steps import CONTRACT, Kind, Output, Step, StepLimits
from tilth_node.runtimes import Mount, StepSpec
from tilth_node.runtimes.sandbox import Sandbox

MIB = 1 << 20
LIMITS = StepLimits(
    wall_ms=1_000_000,  # on a machine that others use too
    memory_bytes=1024 * MIB,
    scratch_bytes=256 * MIB,
    output_bytes=4 * MIB,
    log_bytes=100_000,
    processes=32,
)
IMPORTS = "import os, sys, time, signal, socket\nimport numpy as np\n"
CLASS = "from tilth.algorithm import Algorithm\nclass Hostile(Algorithm):\n"
MODEL = "return {'w': np.zeros(3)}"


def indented(body):
    return "".join(f"        {line}\n" for line in body.splitlines())


class Lab:
    """Runs pieces of user code in a sandbox; every run has a folder of its own."""

    def __init__(self, folder, sandbox):
        self.folder = folder
        self.sandbox = sandbox

    def archive(self, **files):
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        folder.chmod(0o755)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        return folder

    def algo(self, body, method="start(self, task)"):
        return self.archive(algorithm=f"{IMPORTS}{CLASS}    def {method}:\n{indented(body)}")

    def spec(
        self, code, *, kind="init", plan="plan", limits=LIMITS, mounts=(), files=None, **facts
    ):
        strict = facts.pop("strict", False)
        outputs = facts.pop("declared", (Output("out/model", True, limits.output_bytes),))
        task_json = {
            "contract": CONTRACT,
            "step": kind,
            "kind": kind,
            "plan": plan,
            "task": "organization/task",
            "rank": 1,
            "organization": "hospital-a",
            "parameters": {},
            "seed": 0,
            "inputs": [],
            "outputs": ["model"],
            "selection": {},
            "features": "files",
            "metric": {},
            **facts,
        }
        step = Step(kind, Kind(kind), (), outputs, limits, task_json, "", strict, (plan, kind))
        collect = Path(tempfile.mkdtemp(dir=self.folder))
        return StepSpec(step, collect, (Mount(code, "code"), *mounts), files or {})

    async def run(self, body, **given):
        code = body if isinstance(body, Path) else self.algo(body)
        return await self.run_spec(self.spec(code, **given))

    async def run_spec(self, spec):
        handle = await self.sandbox.stage(spec)
        await self.sandbox.start(handle)
        return await self.sandbox.collect(handle)


@pytest.fixture
async def net(tmp_path):
    """Nodes that cosign, over links of memory; started."""
    made = Net(tmp_path)
    for node in made.nodes.values():
        node.start()
    yield made
    for node in made.nodes.values():
        await node.stop()


@pytest.fixture
async def lab():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        sandbox = Sandbox()
        yield Lab(folder, sandbox)
        await sandbox.close()


@pytest.fixture
async def sites(tmp_path):
    """Three members that run in this process."""
    async with three_sites(tmp_path) as made:
        yield made
