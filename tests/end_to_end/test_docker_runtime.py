"""Steps in real containers: what they see, how they end, what is left of them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from container_steps import begin, run, runtime, spec
from engine import Engine

from tilth_node.runtimes import Environment, NodeFault, Reason, selftest
from tilth_node.runtimes.docker import Docker, EngineSettings
from tilth_node.storage.desk import open_desk
from tilth_node.storage.runs import Run
from tilth_node.worker.leftovers import Leftovers

pytestmark = pytest.mark.docker


@pytest.fixture
async def docker(engine: Engine, tmp_path: Path) -> AsyncIterator[Docker]:
    made = runtime(engine, tmp_path)
    yield made
    await made.close()


def containers(engine: Engine, label: str) -> list[str]:
    return engine.docker("ps", "-aq", "--filter", f"label={label}").split()


@pytest.mark.slow
async def test_every_attempt_to_escape_is_stopped_and_the_grade_is_a(docker: Docker) -> None:
    checks = await selftest.doctor(docker)
    assert [check for check in checks if not check.holds] == []
    assert selftest.grade_of(checks) == "A"


async def test_a_step_s_output_and_log_come_back(docker: Docker, tmp_path: Path) -> None:
    code = "os.makedirs('out/model'); open('out/model/w', 'w').write('42'); print('hello')"
    result = await run(docker, spec(tmp_path, code))
    assert (result.reason, result.exit, result.grade) == (None, 0, "A")
    assert (result.outputs["out/model"] / "w").read_text() == "42"
    assert result.log == b"hello\n"
    assert result.image.startswith("sha256:")


async def test_a_step_sees_no_network_and_no_socket_of_the_engine(
    docker: Docker, tmp_path: Path
) -> None:
    code = (
        "print(os.listdir('/sys/class/net'), os.path.exists('/var/run/docker.sock'), os.getuid())"
    )
    result = await run(docker, spec(tmp_path, code))
    assert result.log.decode().split() == ["['lo']", "False", "65534"]


async def test_its_code_is_read_only_and_its_disk_is_bounded(
    docker: Docker, tmp_path: Path
) -> None:
    code = """
for path in ('code/x', '/volumes/step/out/x', '/volumes/step/x', '/x', '/usr/x'):
    try:
        open(path, 'w')
        print('wrote', path)
    except OSError:
        pass
try:
    for n in range(10):
        open(f'fill{n}', 'wb').write(bytes(4 << 20))
except OSError as error:
    print(error.strerror)
"""
    result = await run(docker, spec(tmp_path, code))
    assert result.log == b"No space left on device\n"


async def test_processes_that_fill_memory_together_are_out_of_memory(
    docker: Docker, tmp_path: Path
) -> None:
    code = """
for _ in range(3):
    if not os.fork():
        hoard = bytearray(os.urandom(1 << 20)) * 250
        __import__('time').sleep(60)
_, status = os.wait()
os.killpg(os.getpgrp(), 9)
"""
    result = await run(docker, spec(tmp_path, code))
    assert result.reason is Reason.OUT_OF_MEMORY


async def test_a_killed_helper_does_not_fail_a_step_that_ends_well(
    docker: Docker, tmp_path: Path
) -> None:
    code = """
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        hoard = bytearray(os.urandom(1 << 20)) * 300
        __import__('time').sleep(60)
    children.append(child)
pid, status = os.wait()
os.kill(({*children} - {pid}).pop(), 9)
print('a helper died of', status & 127)
"""
    result = await run(docker, spec(tmp_path, code))
    assert (result.reason, result.log) == (None, b"a helper died of 9\n")


async def test_a_step_is_ended_at_its_time_limit_and_by_a_cancel(
    docker: Docker, tmp_path: Path
) -> None:
    forever = "print('here', flush=True)\n__import__('time').sleep(600)"
    for wall_ms in (1_500, 6_000, 60_000):  # until it comes so far as to say something
        late = await run(docker, spec(tmp_path, forever, f"late-{wall_ms}", wall_ms=wall_ms))
        assert late.reason is Reason.TIME
        if late.log:
            break
    assert late.log == b"here\n"
    handle = await begin(docker, spec(tmp_path, forever, "unwanted"))
    collecting = asyncio.create_task(docker.collect(handle))
    await docker.cancel(handle)
    assert (await collecting).reason is Reason.CANCELED


async def test_nothing_of_a_step_is_left_on_the_engine(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    await run(docker, spec(tmp_path, "pass"))
    await docker.close()
    assert containers(engine, "org.tilth.kind=step") == []
    assert engine.docker("volume", "ls", "-q", "--filter", "label=org.tilth.kind=step") == ""


async def test_the_next_life_of_a_node_collects_what_ran_on(engine: Engine, tmp_path: Path) -> None:
    first, second = runtime(engine, tmp_path), runtime(engine, tmp_path)
    code = "__import__('time').sleep(1); os.makedirs('out/model'); open('out/model/w', 'w')"
    journaled = (await begin(first, spec(tmp_path, code))).to_json()
    handle = await second.attach(journaled)
    assert handle is not None
    result = await second.collect(handle)
    assert (result.reason, list(result.outputs)) == (None, ["out/model"])
    await second.close()


async def test_a_step_is_adopted_once_and_only_as_what_would_be_started_again(
    engine: Engine, tmp_path: Path
) -> None:
    first, second = runtime(engine, tmp_path), runtime(engine, tmp_path)
    desk = open_desk(tmp_path / "worker.db")
    sleep = "__import__('time').sleep(1)"
    same, other, retried = (spec(tmp_path, sleep, name) for name in ("same", "other", "retried"))
    for name, started in (("same", same), ("other", other), ("retried", retried)):
        handle = await begin(first, started)
        desk.runs.put(Run(name, 1, "init", handle.to_json()))
    found = Leftovers(second, desk.runs)
    await found.find(lambda run: True)
    altered = replace(other, step=replace(other.step, task_json={"seed": 1}))
    assert await found.adopt("other", 1, altered) is None
    assert await found.adopt("retried", 2, retried) is None
    adopted = await found.adopt("same", 1, same)
    assert adopted is not None
    mine = ("ps", "-a", "--format", "{{.Names}}", "--filter", "label=org.tilth.kind=step")
    assert engine.docker(*mine).split() == [adopted.id]
    assert (await second.collect(adopted)).exit == 0
    assert await found.adopt("same", 1, same) is None
    await second.close()
    desk.close()


async def test_a_step_behind_other_walls_than_now_or_of_no_more_use_is_ended(
    engine: Engine, tmp_path: Path
) -> None:
    first = runtime(engine, tmp_path)
    desk = open_desk(tmp_path / "worker.db")
    handle = await begin(first, spec(tmp_path, "__import__('time').sleep(600)"))
    second = Docker("tilth-test", EngineSettings(engine.address, cpus=0.5), tmp_path / "engine")
    assert await second.attach(handle.to_json()) is None
    assert containers(engine, "org.tilth.kind=step") == []
    handle = await begin(first, spec(tmp_path, "__import__('time').sleep(600)", "again"))
    desk.runs.put(Run("canceled", 1, "init", handle.to_json()))
    await Leftovers(first, desk.runs).find(lambda run: False)
    assert containers(engine, "org.tilth.kind=step") == []
    assert desk.runs.all() == []
    for each in (first, second):
        await each.close()
    desk.close()


async def test_what_a_crash_left_is_removed_and_other_nodes_steps_are_not(
    engine: Engine, tmp_path: Path
) -> None:
    crashed, other = runtime(engine, tmp_path), runtime(engine, tmp_path, "tilth-other")
    sleep = "__import__('time').sleep(600)"
    await begin(crashed, spec(tmp_path, sleep, "forgotten"))
    await crashed.stage(spec(tmp_path, sleep, "never-started"))
    theirs = await begin(other, spec(tmp_path, sleep, "theirs"))
    again = runtime(engine, tmp_path)
    await run(again, spec(tmp_path, "pass", "next"))
    await again.close()
    assert containers(engine, "org.tilth.node=tilth-other") != []
    mine = ("ps", "-q", "--filter", "label=org.tilth.node=tilth-test")
    assert engine.docker(*mine) == ""
    await other.cancel(theirs)
    await other.close()


async def test_a_killed_container_is_this_machine_s_fault_and_not_the_code_s(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    handle = await begin(docker, spec(tmp_path, "__import__('time').sleep(600)"))
    collecting = asyncio.create_task(docker.collect(handle))
    engine.docker("kill", handle.id)
    with pytest.raises(NodeFault, match="ended without an answer"):
        await collecting


async def test_a_folder_becomes_one_volume_for_all_steps(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    wanted = spec(tmp_path, "print(open('code/code.py').read()[:6])")
    assert (await run(docker, wanted)).log == (await run(docker, wanted)).log
    trees = containers(engine, "org.tilth.source=" + str(wanted.mounts[0].source))
    assert len(trees) == 1


async def test_a_volume_that_was_not_sealed_is_filled_again(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    wanted = spec(tmp_path, "print('whole')")
    await run(docker, wanted)
    source = f"org.tilth.source={wanted.mounts[0].source}"
    (sealed,) = engine.docker(
        "ps", "-a", "--filter", f"label={source}", "--format", "{{.Names}}"
    ).split()
    # As a crash in the middle of filling leaves it: the volume is there, its seal is not.
    engine.docker("rename", sealed, sealed.replace("-sealed", "-filling"))
    again = runtime(engine, tmp_path)
    assert (await run(again, wanted)).log == b"whole\n"
    await again.close()


async def test_a_volume_that_never_got_its_container_is_removed(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    labels = ("--label", "org.tilth.node=tilth-test", "--label", "org.tilth.kind=sealed")
    engine.docker("volume", "create", *labels, "tilth-test-tree-0123")
    await run(docker, spec(tmp_path, "pass"))
    assert "tilth-test-tree-0123" not in engine.docker("volume", "ls", "-q").split()


async def test_a_sweep_while_volumes_are_filled_takes_none_away(
    docker: Docker, tmp_path: Path
) -> None:
    """Regression: a plan that ended swept a volume away that another plan was just filling."""
    await docker.offer(Environment())
    wanted = [spec(tmp_path, f"print({n})", f"task-{n}") for n in range(4)]
    steps = asyncio.gather(*(run(docker, each) for each in wanted))
    while not steps.done():
        await docker.forget("another-plan")
    assert [result.log for result in await steps] == [b"0\n", b"1\n", b"2\n", b"3\n"]


async def test_a_shared_volume_that_somebody_removed_is_filled_again_and_never_empty(
    engine: Engine, docker: Docker, tmp_path: Path
) -> None:
    wanted = spec(tmp_path, "print('whole')")
    await run(docker, wanted)
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # it is being removed
    source = f"label=org.tilth.source={wanted.mounts[0].source}"
    (sealed,) = engine.docker("ps", "-a", "--filter", source, "--format", "{{.Names}}").split()
    engine.docker("rm", "-f", sealed)
    engine.docker("volume", "rm", sealed.removesuffix("-sealed"))
    with pytest.raises(NodeFault, match="a shared volume is gone"):
        await docker.stage(wanted)
    assert (await run(docker, wanted)).log == b"whole\n"


async def test_a_volume_that_a_crash_left_alone_is_found_and_removed_and_others_stay(
    engine: Engine, tmp_path: Path
) -> None:
    gone, kept = spec(tmp_path, "print('gone')", "gone"), spec(tmp_path, "print('kept')", "kept")
    first = runtime(engine, tmp_path)
    sealed = []
    for each in (gone, kept):
        await run(first, each)
        source = f"label=org.tilth.source={each.mounts[0].source}"
        sealed.append(engine.docker("ps", "-a", "--filter", source, "--format", "{{.Names}}"))
    await first.close()
    # As a crash between the removal of a container and of its volume leaves it.
    engine.docker("rm", "-f", sealed[0])
    shutil.rmtree(gone.mounts[0].source)
    second = runtime(engine, tmp_path)
    await run(second, spec(tmp_path, "pass", "next"))
    await second.close()
    volumes = engine.docker("volume", "ls", "-q").split()
    assert sealed[0].removesuffix("-sealed") not in volumes
    assert sealed[1].removesuffix("-sealed") in volumes
