"""The committed protobuf code is what protoc makes of the .proto files."""

import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).resolve().parents[2] / "protos"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "generate.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_committed_code_is_current() -> None:
    result = check(PROTOS)
    assert result.returncode == 0, result.stderr


def test_a_changed_message_is_noticed(tmp_path: Path) -> None:
    copy = shutil.copytree(PROTOS, tmp_path / "protos")
    with (copy / "ledger.proto").open("a") as file:
        file.write("message Forgotten {}\n")
    result = check(copy)
    assert result.returncode == 1
    assert "ledger_pb2.py" in result.stderr
    assert "run python protos/generate.py" in result.stderr
