"""`python deploy/demo.py` where it cannot work: words that help, nothing written, no traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from engine import ROOT
from lacking import lacks


def said(*words: str, **environment: str) -> str:
    """What the command printed; it must refuse."""
    command = [sys.executable, str(ROOT / "deploy" / "demo.py"), *words]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_docker_it_says_what_to_install(tmp_path: Path) -> None:
    text = said(PATH=str(tmp_path))
    assert "the docker command is not here" in text
    assert "install" in text


def test_without_an_engine_it_says_where_it_looked(tmp_path: Path) -> None:
    if not shutil.which("docker"):
        lacks("the docker command is not here")
    text = said(DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert "no container engine answers" in text
    assert f"{tmp_path}/none.sock" in text
    assert "DOCKER_HOST" in text


def test_an_engine_elsewhere_is_refused_because_nodes_mount_its_socket() -> None:
    text = said(DOCKER_HOST="tcp://127.0.0.1:1")
    assert "tcp://127.0.0.1:1" in text
    assert "unix://" in text


def test_a_folder_that_is_not_of_this_demo_is_not_ended(tmp_path: Path) -> None:
    text = said("--down", str(tmp_path))
    assert f"{tmp_path} is not of nodes that --keep left" in text
    assert list(tmp_path.iterdir()) == []
