"""`tilth node image`: the operator's words are checked before anything is written."""

import json
from pathlib import Path

import pytest

from tilth.cli import main
from tilth_node.config import Config, write
from tilth_node.runtimes import approved
from tilth_node.storage.ledger_store import LedgerStore

DIGEST, IMAGE = "e" * 64, "1" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node's folder whose ledger knows two environments named alike, and one more."""
    site = tmp_path / "site"
    site.mkdir()
    absent = f"unix://{tmp_path}/none.sock"
    config = Config(site, "hospital-a", engine_address=absent)
    (site / "node.toml").write_text(write(config))
    rows = {
        "environment/a/1": {"name": "torch", "digest": DIGEST},
        "environment/a/2": {"name": "twice", "digest": "2" * 64},
        "environment/b/3": {"name": "twice", "digest": "3" * 64},
        "image/b/4": {"owner": "b", "digest": DIGEST, "image": IMAGE, "status": "active"},
        "image/b/5": {"owner": "c", "digest": DIGEST, "image": IMAGE, "status": "withdrawn"},
    }
    store = LedgerStore(site / "ledger.db")
    store.seed({key: json.dumps(row).encode() for key, row in rows.items()}, bytes(2048))
    store.close()
    return site


def run(*words: object) -> int:
    return main(["node", "image", *map(str, words)])


@pytest.mark.parametrize("said", ["torch", "a/1", DIGEST])
def test_an_environment_goes_by_name_key_or_digest(folder: Path, said: str) -> None:
    assert run("approve", folder, said, f"sha256:{IMAGE}") == 0
    assert approved.load(folder / "engine" / approved.FILE) == {DIGEST: IMAGE}
    assert run("forget", folder, said) == 0
    assert approved.load(folder / "engine" / approved.FILE) == {}


def test_the_list_says_what_is_approved_and_who_offers_what(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("approve", folder, "torch", IMAGE)
    capsys.readouterr()
    assert run("list", folder) == 0
    said = capsys.readouterr().out
    assert f"approved sha256:{IMAGE}" in said
    assert f"offered  sha256:{IMAGE} by b\n" in said
    assert "by c" not in said


def test_a_list_of_nothing_says_so_and_a_folder_of_no_node_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", tmp_path) == 1
    assert "is not the folder of a node" in capsys.readouterr().err
    (tmp_path / "node.toml").write_text(write(Config(tmp_path, "hospital-a")))
    assert run("list", tmp_path) == 0
    assert "no environment is registered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("approve", "keras", IMAGE), "torch, twice"),
        (("approve", "twice", IMAGE), "is not clear"),
        (("approve", "torch", "torch:latest"), "tags move"),
        (("forget", "torch"), "no image is approved"),
        (("export", "torch", "torch.tar"), "no container engine answers"),
        (("import", "nothing.tar"), "there is no such file"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    expected: str,
) -> None:
    action, *rest = words
    assert run(action, folder, *rest) == 1
    assert expected in capsys.readouterr().err
    assert not (folder / "engine").exists()
