"""What a step can see and reach: its folders, and nothing else."""

import json

import pytest

from tilth_ledger.steps import Output, Reason
from tilth_node.runtimes import Mount

MODEL = "return {'w': np.zeros(3)}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("open('/etc/passwd')", b"No such file"),
        ("open('/etc/shadow')", b"No such file"),
        ("socket.socket()", b"Operation not permitted"),
        ("socket.create_connection(('127.0.0.1', 22), 2)", b"Operation not permitted"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", b"Operation not permitted"),
        ("os.listdir('/home')", b"No such file"),
        ("open('/usr/mine', 'w')", b"Error"),
        ("open('/task/code/algorithm.py', 'a')", b"Error"),
        ("os.kill(1, 9)", b"Operation not permitted"),
        ("os.kill(1, signal.SIGINT)", b"Operation not permitted"),
        ("os.kill(-1, 9)", b"Operation not permitted"),
        ("os.killpg(os.getpgid(os.getppid()), 9)", b"Operation not permitted"),
        ("signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)", b"Operation not permitted"),
        ("os.pidfd_open(os.getppid())", b"Operation not permitted"),
        ("import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())", b"Errno 1"),
        ("os.kill(os.getppid(), 9)", b"Operation not permitted"),
        ("open(f'/proc/{os.getppid()}/mem', 'r+b')", b"Permission denied"),
        ("open('/proc/1/environ')", b"Permission denied"),
        ("os.setuid(0)", b"Error"),
        ("os.chroot('/task')", b"Operation not permitted"),
        ("os.mkfifo('/fifo')", b"Error"),
        ("os.mknod('/task/disk', 0o60600, 65024)", b"Permission denied"),
        ("import resource; resource.setrlimit(resource.RLIMIT_NPROC, (999, 999))", b"not allowed"),
        (
            "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
            b"Errno 1",
        ),
        ("os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)", b"Operation not permitted"),
    ],
)
async def test_a_wall_stops_and_the_step_fails(lab, body, words):
    result = await lab.run(f"{body}\n{MODEL}")

    assert result.reason is Reason.EXIT
    assert words in result.log


@pytest.mark.parametrize(
    "body",
    [
        "open('/tmp/mine', 'w').write('x')",
        "open('/task/local.txt', 'w').write('x')",
        "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'",
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import subprocess; assert subprocess.check_output(['/bin/echo', 'hi']) == b'hi\\n'",
        "import multiprocessing as m\nwith m.Pool(2) as p: assert p.map(abs, [-1, 2]) == [1, 2]",
        "import multiprocessing.shared_memory as m; m.SharedMemory(create=True, size=9).unlink()",
        "import tempfile; tempfile.TemporaryFile().write(b'x')",
        "assert os.urandom(4) and open('/dev/null', 'w').write('x')",
        "assert os.getpid() < 20 and os.getuid() != 0",
        "c = os.fork() or time.sleep(60)\nos.kill(c, 9); assert os.waitpid(c, 0)[1] == 9",
        "import subprocess as s; p = s.Popen(['/bin/sleep', '60']); p.terminate(); p.wait()",
        "signal.signal(signal.SIGUSR1, print); os.kill(0, signal.SIGUSR1)",
    ],
)
async def test_what_honest_code_needs_is_there(lab, body):
    result = await lab.run(f"{body}\n{MODEL}")

    assert result.reason is None, result.log.decode()


async def test_the_environment_holds_nothing_of_the_node(lab, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_NODE", "hunter2")

    result = await lab.run(f"print(dict(os.environ))\n{MODEL}")

    assert b"SECRET" not in result.log


async def test_no_descriptor_of_the_node_is_open(lab):
    result = await lab.run(f"print(sorted(os.listdir('/proc/self/fd')))\n{MODEL}")

    assert result.log.decode().strip() == "['0', '1', '2', '3']"  # 3 is the listing itself


async def test_only_processes_of_the_isolation_are_seen(lab):
    result = await lab.run(f"print(sum(n.isdigit() for n in os.listdir('/proc')))\n{MODEL}")

    assert int(result.log) == 3


async def test_inputs_cannot_be_changed(lab):
    files = {"in/model/model.h5": b"bytes"}

    result = await lab.run(f"open('/task/in/model/model.h5', 'wb')\n{MODEL}", files=files)

    assert result.reason is Reason.EXIT
    assert b"Read-only file system" in result.log


def a_sample(lab, with_labels):
    folder = lab.folder / f"set-{with_labels}" / "0a"
    folder.mkdir(parents=True, mode=0o755)
    folder.parent.chmod(0o755)
    (folder / "x.txt").write_text("1")
    if with_labels:
        (folder / "y.txt").write_text("the label")
    return folder.parent


OPENER = """
from tilth.algorithm import Opener
class Numbers(Opener):
    def get_X(self, folders): return [float((f / "x.txt").read_text()) for f in folders]
"""
LOOKS_FOR_LABELS = """
places = [w for w in os.walk('/') if not w[0].startswith('/usr/')]  # programs, not data
found = [os.path.join(d, n) for d, _, names in places for n in names if n.startswith('y.')]
found += [d for d in ('/task/data', '/task/pred', '/task/metric') if os.path.exists(d)]
print('found', found)
return [0.0] * features.count
"""


async def test_predict_that_looks_for_labels_finds_none(lab):
    lab.archive()
    code = lab.algo(LOOKS_FOR_LABELS, "predict(self, features, model, task)")
    opener = lab.archive(opener=OPENER)
    start = "    def start(self, task): return {}\n"
    (code / "algorithm.py").write_text((code / "algorithm.py").read_text() + start)
    mounts = (Mount(opener, "opener"), Mount(a_sample(lab, with_labels=False), "features"))

    result = await lab.run(
        code, kind="predict", mounts=mounts, outputs=[], declared=(Output("pred", True, 9_999),)
    )

    assert result.reason is None, result.log.decode()
    assert b"found []" in result.log
    assert (result.outputs["pred"] / "0a" / "predictions.npy").is_file()


async def test_the_same_search_finds_labels_where_they_are(lab):
    code = lab.algo(
        LOOKS_FOR_LABELS.replace("return [0.0] * features.count", "return {}"),
        "train(self, data, model, task)",
    )
    start = "    def start(self, task): return {}\n"
    (code / "algorithm.py").write_text((code / "algorithm.py").read_text() + start)
    opener = lab.archive(
        opener=OPENER + "    def get_y(self, folders): return [0] * len(folders)\n"
    )
    mounts = (Mount(opener, "opener"), Mount(a_sample(lab, with_labels=True), "data"))

    result = await lab.run(code, kind="train", mounts=mounts)

    assert result.reason is None, result.log.decode()
    assert b"/task/data/0a/y.txt" in result.log


async def test_a_command_of_any_language_is_a_step(lab):
    code = lab.folder / "shell"
    code.mkdir()
    (code / "tilth.toml").write_text('format = "tilth-1"\n[commands]\ninit = ["./start.sh", "7"]\n')
    (code / "start.sh").write_text(
        "#!/bin/sh\nmkdir -p $TILTH_TASK/out/model\necho $1 > $TILTH_TASK/out/model/weights.txt\n"
    )
    (code / "start.sh").chmod(0o755)

    result = await lab.run(code)

    assert result.reason is None, result.log.decode()
    assert (result.outputs["out/model"] / "weights.txt").read_text() == "7\n"


async def test_a_command_that_does_not_exist_is_the_environments_fault(lab):
    code = lab.folder / "missing"
    code.mkdir()
    (code / "tilth.toml").write_text('format = "tilth-1"\n[commands]\ninit = ["julia", "x.jl"]\n')

    result = await lab.run(code)

    assert result.reason is Reason.ENVIRONMENT


async def test_reports_are_collected_with_the_model(lab):
    declared = (Output("out/model", True, 9_999), Output("report.json", False, 9_999))

    result = await lab.run(
        f"task.report(loss=0.5); task.report(loss=float('nan'))\n{MODEL}", declared=declared
    )

    report = json.loads(result.outputs["report.json"].read_text())
    assert report["scalars"] == {"loss": "nan"}
    assert report["series"]["loss"]["values"] == [0.5, "nan"]


async def test_a_step_is_killed_before_the_node_when_memory_runs_out(lab):
    result = await lab.run(f"print(open('/proc/self/oom_score_adj').read())\n{MODEL}")

    assert result.log.decode().strip() == "1000"
