"""Founding a consortium from the command line: init, network new, join."""

import json
from pathlib import Path
from typing import Any

import pytest

from tilth.cli import main
from tilth_ledger.genesis import Genesis, parse_member_file
from tilth_ledger.journal_records import Promised, decode_record, read_journal
from tilth_node import config
from tilth_node.folder import Folder


def tilth(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """One command with --json: its exit code and what it printed."""
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def sites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        words = ["--organization", f"hospital-{folder.name}", "--address", f"{folder.name}.example"]
        code, _ = tilth(capsys, "node", "init", folder, *words)
        assert code == 0
    return folders


def found(capsys: pytest.CaptureFixture[str], sites: list[Path], *more: object) -> Any:
    members = [word for site in sites for word in ("--member", site / "member.json")]
    out = sites[0].parent / "genesis.json"
    return tilth(capsys, "network", "new", "--name", "test", *members, "--out", out, *more)


def test_a_new_folder_says_that_its_keys_signed_nothing(sites: list[Path]) -> None:
    records = read_journal((Folder(sites[0]).journal / "votes").read_bytes()).bodies
    assert [decode_record(each) for each in records] == [Promised(0, 0, 0)]


@pytest.mark.parametrize("names", [["Hospital A"], ["hospital-a", "--name", "x" * 101]])
def test_a_name_that_no_genesis_lists_is_refused_before_keys_are_made(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"

    code, said = tilth(capsys, "node", "init", folder, "--organization", *names)

    assert (code, said["error"]["kind"]) == (1, "invalid")
    assert not folder.exists()


def test_three_sites_found_a_consortium_and_join_it(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = found(capsys, sites)
    assert code == 0
    assert (facts["q"], facts["k"]) == (2, 3)
    genesis = Genesis.parse(Path(facts["genesis"]).read_bytes())
    assert genesis.net == facts["net"]
    for site in sites:
        code, joined = tilth(capsys, "node", "join", site, facts["genesis"], "--hash", facts["net"])
        assert (code, joined["net"]) == (0, facts["net"])
        code, status = tilth(capsys, "node", "status", site)
        assert (code, status["running"]) == (0, False)


@pytest.mark.parametrize(
    ("words", "listens", "peers", "clients"),
    [
        (["--address", "a.example"], "0.0.0.0", "a.example:7001", "a.example:7002"),
        (["--address", "[::1]:7101", "--host", "::1"], "::1", "[::1]:7101", "[::1]:7102"),
        ([], "127.0.0.1", "127.0.0.1:7001", "127.0.0.1:7002"),
        (["--no-peer-port", "--address", "a.example"], "0.0.0.0", "", "a.example:7002"),
        (["--peer-port", 0, "--client-port", 0], "127.0.0.1", "", ""),
        (["--address", "a.example", "--peer-address", "b:1"], "0.0.0.0", "b:1", "a.example:7002"),
    ],
)
def test_a_member_file_states_where_others_reach_the_node(
    words: list[object],
    listens: str,
    peers: str,
    clients: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, facts = tilth(capsys, "node", "init", tmp_path / "n", "--organization", "a", *words)

    assert (code, facts["peer_address"], facts["client_address"]) == (0, peers, clients)
    settings = config.load(tmp_path / "n")
    assert config.address(settings.client_listen)[0] == listens
    assert settings.data_roots == (tmp_path / "n" / "data",)
    assert settings.data_roots[0].is_dir()


def test_two_sites_at_one_address_found_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        tilth(capsys, "node", "init", folder, "--organization", folder.name)

    code, facts = found(capsys, folders)

    assert code == 1
    assert "same address" in facts["error"]["message"]
    assert "--address HOST" in facts["error"]["remedy"]


def test_sites_that_can_only_dial_are_told_that_they_never_meet(
    sites: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["network", "new", "--name", "test", "--member", str(sites[0] / "member.json")]
    for name in ("x", "y"):
        tilth(capsys, "node", "init", tmp_path / name, "--organization", name, "--no-peer-port")
        words += ["--member", str(tmp_path / name / "member.json")]

    assert main([*words[:-2], "--out", str(tmp_path / "two.json")]) == 0
    assert "never meet" not in capsys.readouterr().out
    assert main([*words[:-4], "--out", str(tmp_path / "one.json")]) == 0
    assert "have a witness outside" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "three.json")]) == 0
    assert "never meet: x, y" in capsys.readouterr().out


def test_both_quorum_columns_and_the_hash_are_shown(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    members = [word for site in sites for word in ("--member", str(site / "member.json"))]
    out = str(sites[0].parent / "genesis.json")
    assert main(["network", "new", "--name", "test", *members, "--out", out]) == 0
    words = capsys.readouterr().out
    assert "crash      q = 2: safe from 0 lying, 1 may be absent" in words
    assert "byzantine  q = 3: safe from 2 lying, 0 may be absent" in words
    assert Genesis.parse(Path(out).read_bytes()).net in words


def test_a_quorum_that_two_halves_could_reach_is_refused(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = found(capsys, sites, "--q", 1)
    assert code == 1
    assert "any two quorums share a member" in facts["error"]["expected"]


def test_a_member_file_holds_no_secret_and_proves_its_keys(sites: list[Path]) -> None:
    content = (sites[0] / "member.json").read_bytes()
    assert parse_member_file(content).organization == "hospital-a"
    for secret in (sites[0] / "keys").glob("*.seed"):
        assert secret.read_bytes().strip() not in content


def test_only_the_node_s_user_looks_into_its_folder(sites: list[Path]) -> None:
    """Samples, models and the secret of duplicate tags lie there in files that others may read."""
    assert sites[0].stat().st_mode & 0o777 == 0o700
    sites[0].chmod(0o755)
    with Folder(sites[0]).locked():
        assert sites[0].stat().st_mode & 0o777 == 0o700
    for secret in ("admin.seed", "authority.key", "member.seed", "node.seed"):
        assert (sites[0] / "keys" / secret).stat().st_mode & 0o777 == 0o600


def test_a_changed_member_file_is_refused_by_name(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = sites[1] / "member.json"
    path.write_text(path.read_text().replace("hospital-b", "hospital-x"))
    code, facts = found(capsys, sites)
    assert code == 1
    assert str(path) in facts["error"]["message"]


def test_a_folder_is_made_once(sites: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, facts = tilth(capsys, "node", "init", sites[0], "--organization", "other")
    assert code == 1
    assert "holds a node already" in facts["error"]["message"]


def test_a_genesis_is_never_written_over(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(capsys, sites)[0] == 0
    assert found(capsys, sites)[0] == 1


def test_only_the_genesis_that_was_agreed_on_is_joined(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, facts = found(capsys, sites)
    code, refused = tilth(capsys, "node", "join", sites[0], facts["genesis"], "--hash", "ab" * 32)
    assert code == 1
    assert refused["error"]["found"] == facts["net"]
    assert not (sites[0] / "genesis.json").exists()


def test_a_file_that_is_no_genesis_is_refused_by_name(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    member = sites[0] / "member.json"
    code, refused = tilth(capsys, "node", "join", sites[0], member)
    assert code == 1
    assert f"{member} is no valid genesis file" in refused["error"]["message"]
    assert "tilth network new" in refused["error"]["remedy"]


def test_a_genesis_without_this_site_is_refused(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, facts = found(capsys, sites[:2])
    code, refused = tilth(capsys, "node", "join", sites[2], facts["genesis"])
    assert code == 1
    assert "does not list hospital-c" in refused["error"]["message"]


def test_a_genesis_with_other_keys_of_this_site_is_refused(
    sites: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    again = tmp_path / "again"
    tilth(capsys, "node", "init", again, "--organization", "hospital-a")
    _, facts = found(capsys, [again, *sites[1:]])
    code, refused = tilth(capsys, "node", "join", sites[0], facts["genesis"])
    assert code == 1
    assert "with other keys" in refused["error"]["message"]


def test_a_folder_serves_one_consortium_for_ever(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = found(capsys, sites)
    tilth(capsys, "node", "join", sites[0], first["genesis"])
    Path(first["genesis"]).unlink()
    _, second = found(capsys, sites, "--q", 3)
    code, refused = tilth(capsys, "node", "join", sites[0], second["genesis"])
    assert code == 1
    assert refused["error"]["found"] == first["net"]


def test_a_node_that_has_not_joined_does_not_run(
    sites: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, refused = tilth(capsys, "node", "run", sites[0])
    assert code == 1
    assert "tilth node join" in refused["error"]["remedy"]
