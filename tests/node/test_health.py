"""`tilth node health`: only the node itself, with its own certificate, counts as an answer."""

import json
import socket
import threading
from pathlib import Path

import pytest

from tilth_ledger.errors import Unavailable
from tilth_node import founding, health
from tilth_node.clock import Clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node that does not run."""
    founding.init(tmp_path / "node", founding.Site("hospital-a", "Hospital A"), Clock())
    return tmp_path / "node"


def test_a_node_that_was_not_started_is_not_healthy(folder: Path) -> None:
    with pytest.raises(Unavailable, match=rf"does not run.*tilth node run {folder}"):
        health.check(folder)


def test_whatever_else_listens_at_its_port_is_not_the_node(folder: Path) -> None:
    (folder / "run").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"
        (folder / "run" / "ready.json").write_text(json.dumps({"client_address": at}))
        answering = threading.Thread(target=lambda: server.accept()[0].close())
        answering.start()
        with pytest.raises(Unavailable, match="does not answer"):
            health.check(folder)
        answering.join()
    with pytest.raises(Unavailable, match=f"does not answer.*{at}.*Connection refused"):
        health.check(folder)
