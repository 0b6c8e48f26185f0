"""Which runtime a node uses, and proof of what it holds before the first task.

Invariants
- The grade in a receipt was proven on this machine since the node started, not assumed.
- Without any isolation that holds, other organizations' code runs only if the operator said so
  (`allow_unisolated` in node.toml).
- The proof is made when the first task comes: a node that only keeps the ledger pays nothing.

Leaves to others: the attempts to escape (`tilth_node.runtimes.selftest`).
"""

import os
import secrets
from pathlib import Path

from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import Unavailable
from tilth_node.config import Config
from tilth_node.logs import logger
from tilth_node.runtimes import Runtime, selftest
from tilth_node.runtimes.building import BuildSettings
from tilth_node.runtimes.docker import Docker, EngineSettings
from tilth_node.runtimes.engine import NoEngine, trouble
from tilth_node.runtimes.images import Fetch
from tilth_node.runtimes.process import EVERYTHING, Processes
from tilth_node.runtimes.sandbox import Sandbox

NO_ISOLATION = "D"


def open_runtime(config: Config, *, passing: bool = False, fetch: Fetch | None = None) -> Runtime:
    """The runtime that node.toml names; `auto` is an engine that is ready, else the sandbox.

    `fetch` brings images that other organizations offer; `passing`: for a look
    beside a running node, whose containers it must not touch."""
    if config.runtime == "process":
        return Processes(EVERYTHING if config.allow_unisolated else frozenset())
    if config.runtime == "sandbox":
        return Sandbox()
    if config.runtime == "auto" and (why := trouble(config.engine_address, config.engine_base)):
        say = logger("worker").info if isinstance(why, NoEngine) else logger("worker").warning
        say("the sandbox is used", because=str(why))
        return Sandbox()
    return _docker(config, passing=passing, fetch=fetch)


def build_settings(config: Config) -> BuildSettings:
    """What node.toml says about the images of environments."""
    wheels = Path(config.engine_wheels) if config.engine_wheels else None
    network, images_from = config.engine_build_network, config.engine_images_from
    seconds = config.engine_build_seconds
    return BuildSettings(config.engine_base, network, wheels, seconds, images_from)


def _docker(config: Config, *, passing: bool, fetch: Fetch | None) -> Docker:
    genesis = config.folder / "genesis.json"
    net = sha256_hex(genesis.read_bytes())[:8] if genesis.exists() else "alone"
    name = f"tilth-{config.organization}-{net}"
    build = build_settings(config)
    cpus = max(1.0, (os.cpu_count() or 1) / config.slots)
    settings = EngineSettings(config.engine_address, build, cpus)
    if passing:
        name = f"{name}-{secrets.token_hex(4)}"
    return Docker(name, settings, config.folder / "engine", keep=not passing, fetch=fetch)


async def prove(runtime: Runtime, *, allow_unisolated: bool) -> None:
    """Find out what the runtime holds and give it that grade. Raises Unavailable when that is
    nothing and the operator has not allowed it."""
    checks = await selftest.proof(runtime)
    runtime.grade = selftest.grade_of(checks)
    for check in checks:
        if not check.holds:
            logger("worker").warning("isolation fails", check=check.name, detail=check.detail)
    logger("worker").info("isolation proven", runtime=runtime.name, grade=runtime.grade)
    if runtime.grade == NO_ISOLATION and not allow_unisolated:
        raise Unavailable(
            "this node cannot isolate tasks, so it runs none",
            found=f"runtime {runtime.name}, grade {runtime.grade}",
            expected="a sandbox or an engine that holds",
            remedy="run `tilth node doctor FOLDER`; allow_unisolated in node.toml runs them anyway",
        )
