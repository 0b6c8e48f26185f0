"""What a site makes for a change of who votes: new keys with a member file, and what it holds."""

import json
from pathlib import Path

import pytest

from tilth.cli import main
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import parse_member_file
from tilth_node import founding, rotating
from tilth_node.clock import Clock
from tilth_node.founding import Site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    founding.init(tmp_path / "site", Site("hospital-a", "Hospital A", peer_port=7101), Clock())
    return tmp_path / "site"


def test_a_rotation_names_new_keys_for_what_was_asked_and_the_old_for_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = parse_member_file((folder / "member.json").read_bytes())
    assert main(["node", "rotate", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    new = parse_member_file(Path(said["member_file"]).read_bytes())
    assert said["rotated"] == ["member"]
    assert new.keys.vote != old.keys.vote
    assert new.cosign_mldsa != old.cosign_mldsa
    assert (new.keys.node, new.keys.admin) == (old.keys.node, old.keys.admin)
    assert (new.tls_authority, new.peer_address) == (old.tls_authority, old.peer_address)
    rotating.rotate(folder, ["node", "admin", "tls"], Clock())
    newest = parse_member_file((folder / rotating.NEXT).read_bytes())
    assert newest.keys.vote == new.keys.vote
    assert newest.keys.admin != new.keys.admin
    assert newest.tls_authority != new.tls_authority


def test_a_node_that_holds_nothing_states_no_copy(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="has not joined"):
        rotating.copy_held(folder)
    genesis = founding.new_network("n", [folder / "member.json"], [], q=None, k=None)
    file = folder / "found.json"
    file.write_bytes(genesis.bytes)
    founding.join(folder, file)
    with pytest.raises(InvalidInput, match="holds nothing of the ledger"):
        rotating.copy_held(folder)


def test_a_newcomer_joins_a_genesis_that_does_not_list_it_only_when_it_says_so(
    folder: Path, tmp_path: Path
) -> None:
    founding.init(tmp_path / "new", Site("hospital-d", "Hospital D"), Clock())
    genesis = founding.new_network("n", [folder / "member.json"], [], q=None, k=None)
    file = tmp_path / "genesis.json"
    file.write_bytes(genesis.bytes)
    with pytest.raises(InvalidInput, match="--newcomer"):
        founding.join(tmp_path / "new", file)
    assert founding.join(tmp_path / "new", file, newcomer=True).net == genesis.net
