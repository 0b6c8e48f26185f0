"""Environments from requirements, a lock or a Dockerfile: the same files, the same digest."""

from pathlib import Path

import pytest

from tilth import recipes
from tilth.errors import InvalidInput
from tilth_ledger import archive
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.shapes import ENVIRONMENT_SPEC

LOCK = """\
# made by a tool
numpy==2.1.0 \\
    --hash=sha256:aa11 \\
    --hash=sha256:bb22
Typing_Extensions==4.12.2 ; python_version < "3.13" --hash=sha256:cc33   # why
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requirements.txt"


def test_a_plain_list_is_its_words(file: Path) -> None:
    file.write_text("numpy>=2\n\n# a remark\nh5py  # another\n")
    assert recipes.of(file) == recipes.of(["numpy>=2", "h5py"])
    assert recipes.of(file).spec == {"python": ">=3.11", "requirements": ["h5py", "numpy>=2"]}


def test_a_file_with_hashes_is_a_lock_and_states_bare_names(file: Path) -> None:
    file.write_text(LOCK)
    made = recipes.of(file)
    assert made.spec["requirements"] == ["numpy", "typing-extensions"]
    assert made.files == {made.spec["lock"]: LOCK.encode()}
    ENVIRONMENT_SPEC.check(made.spec, "spec")


def test_a_folder_is_its_archive_and_its_own_requirements(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM $BASE\n")
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / "install.sh").write_text("true")
    made = recipes.of(str(tmp_path), base="python:3.11-slim", requirements=["h5py"])
    ((digest, packed),) = made.files.items()
    assert (made.spec["dockerfile"], made.spec["base"]) == (digest, "python:3.11-slim")
    assert digest == sha256_hex(packed)
    assert made.spec["requirements"] == ["h5py", "numpy"]
    assert [f.path for f in archive.read(packed)] == [
        *("Dockerfile", "install.sh", "requirements.txt")
    ]
    ENVIRONMENT_SPEC.check(made.spec, "spec")


@pytest.mark.parametrize(
    "text",
    [
        "-r other.txt",
        "--index-url https://example.org/simple\nnumpy",
        "thing @ https://example.org/thing.whl",
        "git+https://example.org/thing",
        "./here",
        "-e .",
        "numpy --no-binary numpy",
    ],
)
def test_what_a_node_could_not_follow_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput, match="a node cannot follow"):
        recipes.of(file)


@pytest.mark.parametrize("line", ["h5py==3.11.0", "h5py>=3 --hash=sha256:dd44"])
def test_a_lock_in_part_is_refused_with_the_line(file: Path, line: str) -> None:
    file.write_text(f"{LOCK}{line}\n")
    with pytest.raises(InvalidInput, match=r"a lock in part.*h5py.*--generate-hashes"):
        recipes.of(file)


def test_what_is_not_there_or_no_environment_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not there"):
        recipes.of(tmp_path / "nothing.txt")
    with pytest.raises(InvalidInput, match="holds no Dockerfile"):
        recipes.of(tmp_path)
    with pytest.raises(InvalidInput, match="too many requirements"):
        recipes.of([f"p{n}" for n in range(501)])
