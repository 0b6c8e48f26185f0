"""A consortium of one, as a real process: it accepts, refuses, proves, and survives any crash."""

import json
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network import READY_SECONDS, Network, new_identity

from tilth.proofs import proof_file
from tilth.verifier import verify
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import Leaf
from tilth_ledger.proofs import TlogProof

Networks = Callable[..., Network]
LAUNCHER = (sys.executable, str(Path(__file__).with_name("crashing.py")))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("one"), members=1) as network:
        network.start()
        yield network


def test_it_accepts_an_entry_and_tells_where_it_stands(network: Network) -> None:
    key, operation = new_identity()
    receipt = network.submit(0, [operation])
    client = network.transport(0)
    row = client.get_row(f"identity/{key.key_id}")
    assert row is not None
    assert row["organization"] == "hospital-a"
    assert client.status()["size"] == receipt.size == receipt.index + 1


@pytest.mark.rule("A1")
def test_it_refuses_with_the_rule_and_words_and_records_nothing(network: Network) -> None:
    client = network.transport(0)
    size = client.status()["size"]
    with pytest.raises(Refused, match="role that the author does not hold") as caught:
        network.submit(0, [{"op": "dataset.withdraw", "key": "hospital-a/" + "0" * 32}])
    assert caught.value.rule == "A1"
    assert "tilth identity add --role owner" in caught.value.remedy
    assert client.status()["size"] == size


@pytest.mark.rule("A2")
def test_the_same_entry_again_gets_the_same_receipt(network: Network) -> None:
    client = network.transport(0)
    entry = network.entry(0, [new_identity()[1]])
    first = client.submit(entry)
    network.submit(0, [new_identity()[1]])
    assert client.submit(entry) == first
    assert client.status()["size"] > first.size


def test_a_stranger_verifies_the_proof_of_an_entry(network: Network) -> None:
    receipt = network.submit(0, [new_identity()[1]])
    network.submit(0, [new_identity()[1]])
    bundle = network.transport(0).prove(receipt.index)
    report = verify(bundle, network.genesis.bytes)
    assert report.ok, report
    proof = proof_file(bundle, receipt.index)
    assert proof is not None
    entry = TlogProof.decode(proof).extra
    assert entry is not None
    assert Leaf.decode(entry).id == receipt.id


def test_a_proof_with_a_changed_leaf_is_refused(network: Network) -> None:
    receipt = network.submit(0, [new_identity()[1]])
    bundle = json.loads(network.transport(0).prove(receipt.index))
    content = zlib.decompress(b64decode(bundle["content"]))
    bundle["content"] = b64encode(zlib.compress(content.replace(b"a", b"b", 1))).decode()
    report = verify(json.dumps(bundle).encode(), network.genesis.bytes)
    assert report.refusal["check"].startswith("place of leaf")


def test_there_is_no_proof_of_what_is_not_there(network: Network) -> None:
    with pytest.raises(InvalidInput, match="no such entry"):
        network.transport(0).prove(10_000)


# -- bad input: a clear error, nothing recorded


def refused(network: Network, entry: bytes) -> TilthError:
    client = network.transport(0)
    before = client.status()["size"]
    with pytest.raises(TilthError) as caught:
        client.submit(entry)
    assert client.status()["size"] == before
    return caught.value


def test_bytes_that_are_no_entry_are_refused(network: Network) -> None:
    for garbage in (b"", b"\0", b"not a leaf", bytes(1000)):
        assert isinstance(refused(network, garbage), InvalidInput)


def test_an_oversized_leaf_is_refused(network: Network) -> None:
    assert "too large" in str(refused(network, bytes(70_000)))


def test_a_request_beyond_all_bounds_is_refused(network: Network) -> None:
    error = refused(network, bytes(5 << 20))
    assert isinstance(error, InvalidInput)
    assert "takes no request as large as this" in str(error)


@pytest.mark.rule("A1")
def test_a_bad_signature_is_refused(network: Network) -> None:
    entry = bytearray(network.entry(0, [new_identity()[1]]))
    entry[-1] ^= 1
    assert "signature" in str(refused(network, bytes(entry)))


def test_an_unknown_field_is_refused(network: Network) -> None:
    entry = network.entry(0, [{**new_identity()[1], "colour": "red"}])
    assert "colour" in str(refused(network, entry))


def test_a_wrong_type_is_refused(network: Network) -> None:
    entry = network.entry(0, [{**new_identity()[1], "roles": "scientist"}])
    assert "roles" in str(refused(network, entry))


def test_an_entry_for_another_consortium_is_refused(network: Network) -> None:
    from tilth_ledger.leaf import write_entry

    leaf = write_entry("ab" * 32, "hospital-a", network.admin(0), "cd" * 16, [new_identity()[1]])
    assert "another consortium" in str(refused(network, leaf.encode()))


@pytest.mark.rule("A5")
def test_an_expired_entry_is_refused(network: Network) -> None:
    error = refused(network, network.entry(0, [new_identity()[1]], not_after=1))
    assert "expired" in str(error)


def test_a_key_that_is_on_the_ledger_cannot_be_added_again(network: Network) -> None:
    _, operation = new_identity()
    network.submit(0, [operation])
    error = refused(network, network.entry(0, [operation]))
    assert isinstance(error, Refused)
    assert error.rule == "A2"
    assert "this key is registered already" in str(error)


def test_a_stranger_is_not_answered(network: Network) -> None:
    stranger = SigningKey.from_seed(b"\x07" * 32)
    with pytest.raises(TilthError, match="nobody on this ledger has the token's key"):
        network.transport(0, stranger).status()


# -- crashes


@pytest.mark.rule("F7")
@pytest.mark.parametrize("members", [1, 3])
def test_a_disk_that_fails_stops_the_process_in_words(networks: Networks, members: int) -> None:
    network = networks(members=members)
    site = network.sites[0]
    broken = site.folder / "broken"
    process = network.launch(0, launcher=LAUNCHER, environment={"FAIL_IF": str(broken)})
    assert network.wait_ready(0)
    network.start()
    network.submit(0, [new_identity()[1]])
    broken.touch()
    entry = network.entry(0, [new_identity()[1]])
    with pytest.raises(TilthError):
        network.transport(0).submit(entry)
    assert process.wait(READY_SECONDS) == 1
    assert "look at the disk" in site.log
    network.kill(0)
    broken.unlink()
    network.start(0)
    assert network.transport(0).submit(entry).index == 1


def test_a_signal_stops_it_cleanly_and_it_goes_on_later(networks: Networks) -> None:
    network = networks(members=1)
    network.start()
    entry = network.entry(0, [new_identity()[1]])
    receipt = network.transport(0).submit(entry)
    assert network.stop(0) == 0
    assert not (network.sites[0].folder / "run" / "ready.json").exists()
    network.start()
    assert network.transport(0).submit(entry).index == receipt.index


def test_a_second_node_on_the_same_folder_is_refused_in_words(networks: Networks) -> None:
    network = networks(members=1)
    network.start()
    site = network.sites[0]
    first, site.process = site.process, None
    network.launch(0)
    assert not network.wait_ready(0)
    site.process = first
    assert "another node runs on" in site.log
    assert f"process {site.ready['pid']}" in site.log
    assert network.submit(0, [new_identity()[1]]).index == 0
