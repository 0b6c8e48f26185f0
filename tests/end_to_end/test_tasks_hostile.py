"""Algorithms that misbehave: the task fails with the right reason, the node goes on, and the log is
read only by those with the right."""

import socket
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hospital_code
import pytest
from field import Field

from tilth.plan import Plan
from tilth.run import Run
from tilth_ledger.archive import ArchiveBounds, ArchiveFile, write
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import Refused


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("field")) as field:
        yield field


def limited(seconds: int) -> Any:
    """Gives trainings a time limit."""

    def change(task: dict[str, Any]) -> None:
        if task["kind"] == "train":
            task["limits"] = {"seconds": seconds}

    return change


def train(field: Field, code: type[Any], seconds: int = 600) -> tuple[Run, dict[str, Any]]:
    """Train with an algorithm at hospital-b; the run and the training's row."""
    run = field.wait(field.submit(field.one_training(code, site=1), limited(seconds)))
    return run, field.net.rows.get(f"task/{field.task(run, 'train')}") or {}


@pytest.mark.parametrize(
    ("code", "reason", "log"),
    [
        (hospital_code.Exits, "exit", "about to leave with 3"),
        (hospital_code.Raises, "exit", "ValueError: a secret of the log"),
        (hospital_code.EatsMemory, "out_of_memory", ""),
        (hospital_code.WritesNoModel, "missing_output", ""),
        (hospital_code.WritesManyFiles, "too_large", "a model of several files"),
        (hospital_code.LeavesAFolderAsReport, "wrong_shape", "report.json is a folder"),
        (hospital_code.ReadsPasswd, "exit", "/etc/passwd"),
    ],
)
def test_a_training_that_misbehaves_fails_with_its_reason(
    field: Field, code: type[Any], reason: str, log: str
) -> None:
    run, task = train(field, code)
    assert (task["state"], task["reason"]) == ("failed", reason), run.logs()
    assert log in run.logs()
    assert "secret" not in str(field.rows("task/"))


def test_a_training_reaches_no_listener_of_the_host(field: Field) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = server.getsockname()
        with socket.create_connection(address):
            server.accept()[0].close()  # it does listen
        plan = field.one_training(hospital_code.OpensASocket, site=1, port=address[1])
        run = field.wait(field.submit(plan))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    task = field.net.rows.get(f"task/{field.task(run, 'train')}") or {}
    assert (task["state"], task["reason"]) == ("failed", "exit"), run.logs()
    assert "PermissionError: [Errno 1] Operation not permitted" in run.logs()


# -- archives that no packer of ours made


def climbing() -> bytes:
    """One file, `../escaped`."""
    return renamed(b"../escaped")


def absolute() -> bytes:
    return renamed(b"/tmp/escaped")


def linking() -> bytes:
    """A symbolic link out of the folder."""
    return renamed(b"escaped", kind=tarfile.SYMTYPE, target=b"/etc/passwd")


def eight_gigabytes() -> bytes:
    """A file that says that it is as large as a header can say."""
    return renamed(b"zeros", size=(8 << 30) - 1)


def zeros() -> bytes:
    """Larger than any archive of code may be, and nothing but zeros."""
    return bytes(ArchiveBounds().archive_bytes + 512)


def renamed(
    name: bytes, *, kind: bytes = tarfile.REGTYPE, target: bytes = b"", size: int = 0
) -> bytes:
    """An archive whose only header is made by hand; its checksum is right."""
    head = bytearray(write([ArchiveFile("x", False, b"")]))
    head[0:100] = name.ljust(100, b"\0")
    head[124:136] = b"%011o\0" % size
    head[156:157] = kind
    head[157:257] = target.ljust(100, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head)


@pytest.mark.parametrize("archive", [climbing, absolute, linking, eight_gigabytes, zeros])
def test_an_algo_with_a_hostile_archive_fails_its_task_and_harms_nothing(
    field: Field, archive: Callable[[], bytes]
) -> None:
    data = archive()
    digest = sha256_hex(data)
    field.net.transport.put_blob(digest, data)
    known = field.net.rows.get(f"algo/{field.algo(hospital_code.Mean).key}") or {}
    algo = {
        "op": "algo.add",
        "key": field.net.new_key(),
        "name": "hostile",
        "archive": digest,
        **{name: known[name] for name in ("manifest", "environment")},
    }
    field.net.record(algo)
    plan = Plan("hostile archive")
    plan.init(replace(field.algo(hospital_code.Mean), key=algo["key"]), at="hospital-b")
    run = field.wait(field.submit(plan))
    task = field.net.rows.get(f"task/{field.task(run, 'init')}") or {}
    assert (task["state"], task["reason"]) == ("failed", "input"), run.logs()
    folder = field.nodes.sites[1].folder
    code = folder / "code"
    assert not list(folder.rglob("*escaped*"))
    assert not Path("/tmp/escaped").exists()
    assert not (code / digest).exists()
    left = [path for path in code.rglob("*") if digest in path.as_posix() and not path.is_dir()]
    assert left == []
    assert field.nodes.sites[1].process.poll() is None


def test_a_training_that_hangs_is_ended_at_its_time_limit(field: Field) -> None:
    _, task = train(field, hospital_code.Hangs, seconds=2)
    assert (task["state"], task["reason"]) == ("failed", "time")


def test_a_log_of_a_gigabyte_is_cut_and_harms_nobody(field: Field) -> None:
    run, task = train(field, hospital_code.LogsForEver)
    assert task["state"] == "done", run.logs()
    log = b"".join(field.nets[1].transport.get_blob(task["receipt"]["log"]))
    assert 1_000 < len(log) <= (1 << 20) + 1_000


@pytest.mark.rule("P6")
def test_a_log_is_read_by_the_data_s_owner_and_the_plan_s_owner_only(field: Field) -> None:
    run, _ = train(field, hospital_code.Raises)
    key = field.task(run, "train")
    for reader in (field.nets[0], field.nets[1]):
        assert "a secret of the log" in reader.tasks.log(key)
    with pytest.raises(Refused) as refused:
        field.nets[2].tasks.log(key)
    assert refused.value.rule == "P6"


def test_predict_finds_no_labels_however_it_looks(field: Field) -> None:
    goal = field.objective()
    plan = field.averaging(goal=goal, code=hospital_code.LooksForLabels)
    plan.on_failure = "continue"
    run = field.wait(field.submit(plan))
    tests = [task for task in run.tasks() if task.kind == "test"]
    assert {task.state for task in tests} == {"failed"}
    assert "no labels anywhere" in run.logs()
    assert field.rows(f"certified/{goal.key}/") == {}


@pytest.mark.rule("B2")
def test_a_score_that_is_not_a_number_fails_the_test_and_never_ranks(field: Field) -> None:
    goal = field.objective_with("never_a_number")
    plan = field.averaging(goal=goal)
    plan.on_failure = "continue"
    run = field.wait(field.submit(plan))
    reasons = {
        (field.net.rows.get(f"task/{task.key}") or {}).get("reason")
        for task in run.tasks()
        if task.kind == "test"
    }
    assert reasons == {"score"}, run.logs()
    assert field.rows(f"certified/{goal.key}/") == {}


def test_tasks_whose_code_nobody_serves_keep_no_node_from_working(field: Field) -> None:
    """An init needs no right of its worker: anybody could fill the node's places for ever."""
    known = field.net.rows.get(f"algo/{field.algo(hospital_code.Mean).key}") or {}
    algo = {
        "op": "algo.add",
        "key": field.net.new_key(),
        "name": "nowhere",
        "archive": "ab" * 32,
        **{name: known[name] for name in ("manifest", "environment")},
    }
    field.net.record(algo)
    plans = []
    for _ in range(3):
        plan = Plan("nothing to run")
        plan.init(replace(field.algo(hospital_code.Mean), key=algo["key"]), at="hospital-b")
        plans.append(field.submit(plan))
    for ghost in plans:
        key = field.task(ghost, "init")
        field.until(f"task/{key}", lambda row: row["state"] == "doing")
    _, task = train(field, hospital_code.Mean)
    assert task["state"] == "done"
    for ghost in plans:
        ghost.cancel()


def test_the_node_works_on_after_all_this(field: Field) -> None:
    _, task = train(field, hospital_code.Mean)
    assert task["state"] == "done"
