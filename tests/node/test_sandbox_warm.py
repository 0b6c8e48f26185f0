"""Warm runners: fast because they are used again, safe because nothing of a step remains."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tilth_ledger.steps import Reason, StepLimits
from tilth_node.runtimes import Mount

MODEL = "return {'w': np.zeros(3)}"
MIB = 1 << 20


async def test_the_second_step_of_a_key_is_warm(lab):
    code = lab.algo(MODEL)

    first, second = await lab.run(code), await lab.run(code)

    assert (first.reason, first.warm) == (None, False)
    assert (second.reason, second.warm) == (None, True)


LEAVE = """
marks = ('/tmp/mark', '/dev/shm/mark', '/task/mark', 'mark', '/proc/self/cwd/mark')
seen = [p for p in marks if os.path.exists(p)]
for p in marks: open(p, 'w').write('left')
seen += [n for n in ('LEFT',) if n in os.environ]
os.environ['LEFT'] = 'yes'
seen += ['numpy'] if hasattr(np, 'left') else []
np.left = True
seen += ['cwd'] if os.getcwd() != '/task' else []
os.chdir('/tmp')
seen += ['umask'] if os.umask(0o077) != 0o022 else []
seen += ['nice'] if os.nice(0) != NICE else []
os.nice(3)
seen += ['handler'] if signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL else []
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
import resource
seen += ['limit'] if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 200 else []
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print('seen', seen)
"""


async def test_nothing_of_a_step_reaches_the_next(lab):
    code = lab.algo(LEAVE.replace("NICE", str(min(19, os.nice(0) + 10))) + MODEL)

    results = [await lab.run(code) for _ in range(3)]

    assert [r.warm for r in results] == [False, True, True]
    assert [r.log for r in results] == [b"seen []\n"] * 3


async def test_the_same_search_finds_what_its_own_step_left(lab):
    twice = LEAVE + LEAVE.replace("'cwd'] if os.getcwd() != '/task'", "'cwd'] if True")

    result = await lab.run(f"NICE = 10\n{twice}{MODEL}")

    assert b"'/task/mark', 'mark', '/proc/self/cwd/mark', 'LEFT', 'numpy', 'cwd'" in result.log


async def test_random_numbers_follow_the_seed_and_not_the_history(lab):
    code = lab.algo(f"import random\nprint(random.random(), np.random.rand())\n{MODEL}")

    logs = [(await lab.run(code, seed=seed)).log for seed in (1, 1, 2, 1)]

    assert logs[0] == logs[1] == logs[3] != logs[2]


async def test_sets_iterate_in_the_same_order_in_every_isolation(lab):
    code = lab.algo(f"print({{'a', 'b', 'c', 'd', 'e'}})\n{MODEL}")

    logs = {(await lab.run(code, plan=plan)).log for plan in ("one", "two", "three")}

    assert len(logs) == 1


@pytest.mark.parametrize("body", ["sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"])
async def test_a_runner_is_not_used_again_after_a_failure(lab, body):
    good = "if task.seed: " + MODEL + "\n"
    code = lab.algo(good + body)
    await lab.run(code, seed=1)

    failed, after = await lab.run(code, seed=0), await lab.run(code, seed=1)

    assert (failed.warm, failed.reason is None) == (True, False)
    assert (after.warm, after.reason) == (False, None)


async def test_a_runner_is_not_used_again_after_a_process_stayed_behind(lab):
    code = lab.algo(f"if not os.fork(): time.sleep(600)\n{MODEL}")

    first, second = await lab.run(code), await lab.run(code)

    assert (first.reason, second.reason) == (None, None)
    assert (first.warm, second.warm) == (False, False)


@pytest.mark.parametrize("other", [{"plan": "another"}, {"kind": "aggregate"}, {"strict": True}])
async def test_runners_are_not_shared_beyond_their_key(lab, other):
    methods = f"    def aggregate(self, models, task):\n        {MODEL}\n"
    code = lab.algo(MODEL)
    (code / "algorithm.py").write_text((code / "algorithm.py").read_text() + methods)
    await lab.run(code)

    result = await lab.run(code, **other)

    assert (result.reason, result.warm) == (None, False)


async def test_other_code_or_data_is_another_runner(lab):
    first, second = lab.algo(MODEL), lab.algo(MODEL)
    await lab.run(first)

    other_code = await lab.run(second)
    other_data = await lab.run(first, mounts=(Mount(lab.archive(x="1"), "data"),))

    assert not other_code.warm
    assert not other_data.warm


async def test_code_that_starts_threads_on_import_is_never_imported_before_its_step(lab):
    head = (
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(60,), daemon=True)\n"
    )
    code = lab.algo(f"print(threading.active_count())\n{MODEL}")
    (code / "algorithm.py").write_text(head + "t.start()\n" + (code / "algorithm.py").read_text())

    first, second = await lab.run(code), await lab.run(code)

    assert [first.log, second.log] == [b"2\n", b"2\n"]
    assert second.warm


async def test_a_broken_import_of_the_archive_does_not_break_the_runner(lab):
    code = lab.archive(algorithm="this is no Python\n")

    result = await lab.run(code)

    assert result.reason is Reason.EXIT
    assert b"SyntaxError" in result.log


async def test_the_oldest_idle_runner_makes_room(lab):
    lab.sandbox._pool._most = 2
    code = lab.algo(MODEL)
    for plan in ("one", "two", "three"):
        await lab.run(code, plan=plan)

    again = {plan: (await lab.run(code, plan=plan)).warm for plan in ("three", "two", "one")}

    assert again == {"three": True, "two": True, "one": False}


async def test_a_plan_that_ended_leaves_no_runner(lab):
    code = lab.algo(MODEL)
    await lab.run(code, plan="ended")
    await lab.run(code, plan="goes on")

    await lab.sandbox.forget("ended")

    assert not (await lab.run(code, plan="ended")).warm
    assert (await lab.run(code, plan="goes on")).warm


async def test_two_steps_of_one_key_at_once_do_not_meet(lab):
    import asyncio

    code = lab.algo(f"open('/tmp/here', 'x')\ntime.sleep(0.3)\n{MODEL}")

    results = await asyncio.gather(lab.run(code), lab.run(code))

    assert [r.reason for r in results] == [None, None]


async def test_large_inputs_are_mounted_in_an_isolation_of_their_own(lab):
    big = lab.folder / "big.h5"
    big.write_bytes(bytes(65 * MIB))
    big.chmod(0o644)
    code = lab.algo(f"print(os.path.getsize('/task/in/model/model.h5'))\n{MODEL}")
    limits = StepLimits(wall_ms=1_000_000, scratch_bytes=16 * MIB)

    first = await lab.run(code, files={"in/model/model.h5": big}, limits=limits)
    second = await lab.run(code, files={"in/model/model.h5": big}, limits=limits)

    assert [first.reason, first.log] == [None, b"68157440\n"]
    assert not second.warm


async def test_inputs_of_one_step_are_not_there_in_the_next(lab):
    code = lab.algo(f"print(sorted(os.listdir('/task')))\n{MODEL}")

    first = await lab.run(code, files={"in/model/model.h5": b"1"})
    second = await lab.run(code, files={})

    assert b"'in'" in first.log
    assert b"'in'" not in second.log
    assert second.warm


async def test_limits_are_those_of_the_step_not_of_the_runner(lab):
    code = lab.algo(f"bytearray(300 << 20)\n{MODEL}")
    wide = StepLimits(wall_ms=1_000_000)
    narrow = replace(wide, memory_bytes=200 * MIB)

    first = await lab.run(code, limits=wide)
    second = await lab.run(code, limits=narrow)

    assert (first.reason, second.reason) == (None, Reason.OUT_OF_MEMORY)
    assert second.warm


async def test_outputs_of_a_warm_step_are_its_own(lab):
    code = lab.algo("return {'w': np.full(2, float(task.seed))}")

    first, second = await lab.run(code, seed=1), await lab.run(code, seed=2)

    paths = [Path(r.outputs["out/model"]) / "model.h5" for r in (first, second)]
    assert paths[0].read_bytes() != paths[1].read_bytes()


async def test_imports_that_start_threads_are_left_to_each_step(lab):
    count = "print(len(os.listdir('/proc/self/task')), 'numpy' in sys.modules)\n"
    head = "import os, sys\n" + count
    code = lab.algo(count + MODEL)
    (code / "algorithm.py").write_text(head + (code / "algorithm.py").read_text())
    lab.sandbox._layout["environment"]["OPENBLAS_NUM_THREADS"] = "2"

    first, second = await lab.run(code), await lab.run(code)

    assert first.log == second.log == b"1 False\n2 True\n"
    assert second.warm


async def test_imports_without_threads_are_shared(lab):
    code = lab.algo(MODEL)
    head = "import os, sys\nprint(len(os.listdir('/proc/self/task')), 'numpy' in sys.modules)\n"
    (code / "algorithm.py").write_text(head + (code / "algorithm.py").read_text())

    result = await lab.run(code)

    assert result.log == b"1 True\n"
