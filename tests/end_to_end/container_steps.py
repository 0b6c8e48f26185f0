"""Steps for tests of the container runtime: a piece of Python as a step's whole code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tilth_ledger.steps import CONTRACT, Kind, Output, Step, StepLimits
from tilth_node.runtimes import Handle, Mount, StepResult, StepSpec
from tilth_node.runtimes.building import BuildSettings
from tilth_node.runtimes.docker import Docker, EngineSettings

MIB = 1 << 20
LIMITS = StepLimits(
    wall_ms=1_000_000,
    cpu_ms=30_000,
    memory_bytes=400 * MIB,
    scratch_bytes=16 * MIB,
    log_bytes=4_096,
)
MANIFEST = 'format = "tilth-1"\nname = "x"\n[commands]\ninit = ["python", "-u", "code.py"]\n'


def runtime(engine: Any, folder: Path, node: str = "tilth-test", **build: Any) -> Docker:
    """The runtime of a node on the test's engine."""
    settings = EngineSettings(engine.address, BuildSettings(**build))
    return Docker(node, settings, folder / "engine")


def spec(folder: Path, code: str, name: str = "task", **limits: Any) -> StepSpec:
    """A step that runs `code`; it may write to /task/out/model."""
    source, collect = folder / f"code-{name}", folder / f"collect-{name}"
    source.mkdir()
    collect.mkdir()
    (source / "tilth.toml").write_text(MANIFEST)
    (source / "code.py").write_text(f"import os\nos.chdir('/task')\n{code}\n")
    step = Step(
        name="init",
        kind=Kind.INIT,
        folders=(),
        outputs=(Output("out/model", False, MIB),),
        limits=replace(LIMITS, **limits),
        task_json={
            "contract": CONTRACT,
            "step": "init",
            "kind": "init",
            "task": name,
            "seed": 0,
        },
        environment="",
        strict=True,
        warm_key=(name,),
    )
    return StepSpec(step, collect, (Mount(source, "code"),))


async def begin(docker: Docker, wanted: StepSpec) -> Handle:
    """Stage and start."""
    handle = await docker.stage(wanted)
    await docker.start(handle)
    return handle


async def run(docker: Docker, wanted: StepSpec) -> StepResult:
    """Stage, start and collect."""
    return await docker.collect(await begin(docker, wanted))
