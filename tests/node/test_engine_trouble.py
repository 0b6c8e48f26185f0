"""An engine that is too old, that refuses this user, or is none: said in words, and not used."""

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from importlib import import_module
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from tilth_node import config, doctor, founding, runtimes
from tilth_node.clock import Clock
from tilth_node.runtimes.docker import Docker
from tilth_node.runtimes.engine import Engine, EngineFault, NoEngine, trouble
from tilth_node.runtimes.sandbox import Sandbox
from tilth_node.worker.isolation import open_runtime

NOBODY = 65_534


@contextmanager
def engine_that_says(folder: Path, answers: dict[str, Any]) -> Iterator[str]:
    """An engine's socket; `answers` by the end of a path, 404 for all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = next((a for path, a in answers.items() if self.path.endswith(path)), None)
            body = json.dumps({"message": "no such thing"} if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    path = folder / "engine.sock"
    with ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"unix://{path}"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("api", ["1.39", "1.12", "0.9"])
def test_an_engine_that_is_too_old_is_named_with_what_is_wanted(tmp_path: Path, api: str) -> None:
    with engine_that_says(tmp_path, {"/version": {"Version": "18.09", "ApiVersion": api}}) as at:
        fault = trouble(at, "tilth-task")
        assert fault is not None
        assert fault.message == "the container engine is too old"
        assert f"API {api}" in fault.found
        assert "1.40" in fault.expected
        assert "19.03" in fault.expected
        assert "newer" in fault.remedy
        engine = Engine(at)
        with pytest.raises(EngineFault, match="too old"):
            engine.now(lambda connection: connection.info())
        engine.close()


@pytest.mark.parametrize("api", ["1.40", "1.41", "1.45", "2.0"])
def test_an_engine_that_is_new_enough_is_spoken_to_in_its_own_version(
    tmp_path: Path, api: str
) -> None:
    answers = {"/version": {"ApiVersion": api}, f"/v{api}/images/tilth-task/json": {"Id": "x"}}
    with engine_that_says(tmp_path, answers) as at:
        assert trouble(at, "tilth-task") is None
        fault = trouble(at, "another")
    assert fault is not None
    assert "lacks the image" in fault.message


def test_something_else_at_the_address_is_no_engine(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, {"/version": "hello"}) as at:
        fault = trouble(at, "tilth-task")
    assert fault is not None
    assert "is no container engine" in fault.found


def as_nobody(work: Callable[[], Any]) -> Any:
    """The result of `work` in a process of a user without rights."""
    for module in ("docker", "docker.transport.unixconn"):
        import_module(module)  # a user without rights may not read them any more

    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as said:
        text = said.read()
    os.waitpid(child, 0)
    return json.loads(text)


@pytest.fixture
def forbidden(tmp_path: Path) -> Iterator[str]:
    """The socket of an engine that only its owner may use."""
    # pytest's folders, one more of them for each worker, are its user's alone.
    mine = [each for each in (tmp_path, *tmp_path.parents) if each.stat().st_uid == os.geteuid()]
    for folder in mine[:4]:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    with engine_that_says(tmp_path, {"/version": {"ApiVersion": "1.41"}}) as at:
        os.chmod(at.removeprefix("unix://"), 0o600 if os.geteuid() == 0 else 0)
        yield at


def test_a_socket_without_permission_is_said_with_the_group_that_helps(forbidden: str) -> None:
    def work() -> Any:
        fault = trouble(forbidden, "tilth-task")
        return fault and [fault.message, fault.found, fault.remedy, isinstance(fault, NoEngine)]

    message, found, remedy, nothing = as_nobody(work)
    assert message == "this user may not use the engine's socket"
    assert forbidden in found
    assert "group" in remedy
    assert not nothing


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    (tmp_path / "data").mkdir()
    site = founding.Site("hospital-a", "Hospital A", data_roots=(tmp_path / "data",))
    founding.init(tmp_path / "node", site, Clock())
    return config.load(tmp_path / "node")


def with_engine(settings: config.Config, runtime: str, address: str) -> config.Config:
    from dataclasses import replace

    return replace(settings, runtime=runtime, engine_address=address)


def test_a_node_that_may_choose_takes_the_sandbox_instead(
    forbidden: str, settings: config.Config
) -> None:
    wanted = with_engine(settings, "auto", forbidden)
    assert as_nobody(lambda: isinstance(open_runtime(wanted), Sandbox))


async def test_a_node_that_must_use_the_engine_waits_and_says_why(
    forbidden: str, settings: config.Config
) -> None:
    wanted = with_engine(settings, "docker", forbidden)
    for path in (settings.folder, settings.folder / "engine"):
        path.mkdir(exist_ok=True)
        os.chown(path, NOBODY, NOBODY) if os.geteuid() == 0 else None

    def work() -> Any:
        import asyncio

        async def proof() -> Any:
            runtime = open_runtime(wanted)
            try:
                await runtime.stated()
            except EngineFault as fault:
                return [isinstance(runtime, Docker), fault.message]

        return asyncio.new_event_loop().run_until_complete(proof())

    assert as_nobody(work) == [True, "this user may not use the engine's socket"]


def test_the_doctor_says_why_an_engine_is_not_used(tmp_path: Path, settings: config.Config) -> None:
    with engine_that_says(tmp_path, {"/version": {"ApiVersion": "1.30"}}) as at:
        old = doctor.engine(with_engine(settings, "auto", at))
    assert not old.holds
    assert "too old, so the sandbox is used: API 1.30" in str(old)
    with engine_that_says(settings.folder, {"/version": {"ApiVersion": "1.41"}}) as at:
        bare = doctor.engine(with_engine(settings, "auto", at))
    assert bare.holds
    assert "deploy/task.Dockerfile" in str(bare)


def test_no_engine_is_no_fault_unless_one_was_named(
    tmp_path: Path, settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"unix://{tmp_path}/nothing.sock"
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(runtimes.engine, "SOCKET", absent)
    none = doctor.engine(settings)
    assert none.holds
    assert f"there is no container engine, so the sandbox is used: no socket {absent}" in str(none)
    by_setting = doctor.engine(with_engine(settings, "auto", absent))
    monkeypatch.setenv("DOCKER_HOST", absent)
    for wrong in (by_setting, doctor.engine(settings)):
        assert not wrong.holds
        assert f"no socket {absent}" in wrong.found
        assert "engine.address or DOCKER_HOST" in wrong.remedy


async def test_the_doctor_of_a_node_that_must_use_an_engine_says_that_tasks_wait_and_why(
    tmp_path: Path, settings: config.Config
) -> None:
    absent = with_engine(settings, "docker", f"unix://{tmp_path}/nothing.sock")
    grade, (finding,) = await doctor.isolation(absent)
    assert (grade, finding.name, finding.holds) == ("D", "container engine", False)
    assert "no socket" in finding.found
    assert "so tasks wait" in finding.found
    assert "DOCKER_HOST" in finding.remedy


@pytest.mark.parametrize("kind", ["nothing", "file", "port"])
def test_what_the_system_said_of_a_connection_is_repeated_in_its_own_words(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("no socket")
    address = "tcp://127.0.0.1:1" if kind == "port" else f"unix://{tmp_path}/{kind}"
    said = "No such file or directory" if kind == "nothing" else "Connection refused"
    engine = Engine(address)
    with pytest.raises(EngineFault) as failure:
        engine.now(lambda connection: connection.info())
    engine.close()
    assert failure.value.found == f"{address}: {said}"
