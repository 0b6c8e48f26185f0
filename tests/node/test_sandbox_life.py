"""A sandbox and the node: who ends when the other does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tilth_ledger.steps import Reason
from tilth_node.runtimes import Handle, NodeFault, adoption

MODEL = "return {'w': np.zeros(3)}"
LONG = "open('/task/started', 'w').write('x')\ntime.sleep(600)"


def alive(pid):
    """Whether a process runs: a zombie that only waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def below(pid):
    """All processes below one, by the host's numbers."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


async def test_a_canceled_step_ends_with_all_it_started(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo(LONG)))
    await lab.sandbox.start(handle)
    collecting = asyncio.create_task(lab.sandbox.collect(handle))
    pids = [pid for pid, _ in handle.facts["processes"]]
    assert all(map(alive, pids))

    await lab.sandbox.cancel(handle)
    result = await collecting

    assert result.reason is Reason.CANCELED
    await lab.sandbox.attach(handle.to_json())
    assert not any(map(alive, pids))


async def test_cancel_of_a_step_that_ended_changes_nothing(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo(MODEL)))
    await lab.sandbox.start(handle)
    result = await lab.sandbox.collect(handle)

    await lab.sandbox.cancel(handle)

    assert result.reason is None


async def test_a_handle_names_real_processes_before_anything_runs(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo(MODEL)))

    assert Handle.from_json(handle.to_json()) == handle
    assert len(handle.facts["processes"]) == 2
    assert all(alive(pid) for pid, _ in handle.facts["processes"])


async def test_attach_after_a_crash_ends_what_is_left(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo(LONG)))
    await lab.sandbox.start(handle)
    pids = [pid for pid, _ in handle.facts["processes"]]

    assert await lab.sandbox.attach(handle.to_json()) is None

    assert not any(map(alive, pids))
    with pytest.raises(NodeFault, match="ended without an answer"):
        await lab.sandbox.collect(handle)


async def test_attach_spares_a_process_that_got_an_old_number(lab):
    stranger = await asyncio.create_subprocess_exec("/bin/sleep", "600")
    started = adoption._started(stranger.pid)
    handle = Handle("x", "sandbox", {"processes": [[stranger.pid, started - 1]]})

    assert await lab.sandbox.attach(handle.to_json()) is None

    assert alive(stranger.pid)
    stranger.kill()
    await stranger.wait()


async def test_attach_to_what_is_long_gone_finds_nothing(lab):
    handle = Handle("x", "sandbox", {"processes": [[2**22 - 1, 5]]})

    assert await lab.sandbox.attach(handle.to_json()) is None


NODE = """
    import asyncio, json, sys
    from pathlib import Path
    sys.path[:0] = [{folder!r}, {network!r}]
    import conftest
    from tilth_node.runtimes.sandbox import Sandbox

    async def main():
        lab = conftest.Lab(Path({work!r}), Sandbox())
        handle = await lab.sandbox.stage(lab.spec(lab.algo({body!r})))
        await lab.sandbox.start(handle)
        print(handle.to_json(), flush=True)
        await lab.sandbox.collect(handle)

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_node_takes_its_sandbox_with_it(lab, how):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\nos.setsid()\ntime.sleep(600)"
    here = Path(__file__).parent
    network = str(here.parent / "end_to_end")
    script = NODE.format(folder=str(here), network=network, work=str(lab.folder), body=body)
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(script), stdout=subprocess.PIPE
    )
    handle = json.loads(await node.stdout.readline())
    pids = [pid for pid, _ in handle["facts"]["processes"]]
    assert all(map(alive, pids))

    node.send_signal(how)
    await node.wait()

    await asyncio.wait_for(gone_by_itself(pids), 100)
    assert not any(map(alive, pids))


async def gone_by_itself(pids):
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        await adoption._ended(fd)
        os.close(fd)


async def test_a_launcher_that_is_killed_takes_pid_1_with_it(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo(LONG)))
    await lab.sandbox.start(handle)
    (launcher, _), (first, _) = handle.facts["processes"]

    os.kill(launcher, signal.SIGKILL)

    await asyncio.wait_for(gone_by_itself([first]), 100)
    with pytest.raises(NodeFault):
        await lab.sandbox.collect(handle)


async def test_the_end_of_pid_1_is_the_end_of_every_process(lab):
    handle = await lab.sandbox.stage(lab.spec(lab.algo("os.fork()\nos.fork()\ntime.sleep(600)")))
    await lab.sandbox.start(handle)
    (_, _), (first, _) = handle.facts["processes"]
    inside = below(first)

    os.kill(first, signal.SIGKILL)

    await asyncio.wait_for(gone_by_itself([first, *inside]), 100)
    assert not any(map(alive, inside))


async def test_a_fault_of_the_machine_is_no_fault_of_the_code(lab):
    spec = lab.spec(lab.folder / "there-is-no-such-folder")

    with pytest.raises(NodeFault, match="doctor"):
        await lab.run_spec(spec)


async def test_what_lies_below_tmp_is_still_there_for_the_second_step(lab):
    """A clone of this project below /tmp: the disk of a step must not hide its Python."""
    library = lab.folder / "library"
    library.mkdir(mode=0o755)
    (library / "kept.txt").write_text("still here")
    lab.sandbox._layout["binds"] = [*lab.sandbox._layout["binds"], (str(library), "/tmp/a/library")]
    code = lab.algo(f"print(open('/tmp/a/library/kept.txt').read())\n{MODEL}")

    first, second = await lab.run(code), await lab.run(code)

    assert first.log == second.log == b"still here\n"
    assert second.warm


async def test_what_lies_below_tmp_cannot_be_changed(lab):
    library = lab.folder / "library"
    library.mkdir(mode=0o777)
    lab.sandbox._layout["binds"] = [*lab.sandbox._layout["binds"], (str(library), "/tmp/a/library")]

    result = await lab.run(f"open('/tmp/a/library/new.txt', 'w')\n{MODEL}")

    assert b"Read-only file system" in result.log


async def test_an_environment_that_cannot_start_leaves_its_words(lab):
    lab.sandbox._layout["argv"] = ["python", "-m", "no_such_runner"]

    result = await lab.run(MODEL)

    assert result.reason is Reason.ENVIRONMENT
    assert b"no_such_runner" in result.log
