"""Real members gather cosignatures, also of one that was away, and serve them to strangers."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from network import Network, cosigned, has_reached, new_identity
from witness_server import Witness

from tilth.verifier import verify
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.leaf import Leaf
from tilth_ledger.merkle import leaf_hash, verify_inclusion
from tilth_ledger.notes import ED25519, VerifierKey
from tilth_ledger.policies import Policy
from tilth_ledger.proofs import TlogProof

Networks = Callable[..., Network]


def get(network: Network, i: int, target: str) -> tuple[int, bytes]:
    """What a node's HTTP port answers."""
    client = http.client.HTTPConnection(network.sites[i].ready["http_address"], timeout=200)
    client.request("GET", target)
    answer = client.getresponse()
    found = answer.status, answer.read()
    client.close()
    return found


def proof_of(network: Network, i: int, index: int) -> bytes:
    """The proof file of an entry; the node waits for signatures, but may not be connected yet."""
    for _ in range(100):
        status, data = get(network, i, f"/proof/{index}.tlog-proof")
        if status == 200:
            return data
    raise AssertionError(data)


@pytest.fixture
def witness() -> Iterator[Callable[[Network], Witness]]:
    """Starts a witness outside that the first node asks."""
    with ExitStack() as stack:

        def make(network: Network) -> Witness:
            origin = origin_of(network.genesis.name, network.genesis.net)
            keys = [VerifierKey(origin, ED25519, m.keys.log.raw) for m in network.genesis.members]
            made = Witness({origin: keys})
            stack.callback(made.close)
            file = network.sites[0].folder / "node.toml"
            line = f'"http://127.0.0.1:{made.port}/prefix" = "{made.keys[0]}"'
            text = file.read_text().replace("[witnesses]\n", f"[witnesses]\n{line}\n")
            file.write_text(text.replace("every_seconds = 10", "every_seconds = 1"))
            return made

        yield make


def test_a_head_is_complete_when_the_member_that_was_away_is_back(
    networks: Networks, witness: Callable[[Network], Witness]
) -> None:
    network = networks(members=3, public=True, arguments=("--http-address", "127.0.0.1:0"))
    outside = witness(network)
    network.start(0, 1)
    entry = network.entry(0, [new_identity()[1]])
    network.transport(0).submit(entry)
    assert get(network, 0, "/checkpoint")[0] == 404  # two of three sign: k is three
    network.start(2)
    has_reached(network.transport(2), 1)

    policy = Policy.parse(get(network, 1, "/policy")[1])
    for i in range(3):
        proof = TlogProof.decode(proof_of(network, i, 0))
        head = policy.check(proof.checkpoint)
        assert proof.extra == entry
        verify_inclusion(leaf_hash(entry), 0, head.size, proof.path, head.root)
        status, note = get(network, i, "/checkpoint")  # by now perhaps with a witness' line more
        assert (status, policy.check(note)) == (200, head)
    assert Leaf.decode(get(network, 2, "/tile/entries/000.p/1")[1][2:]).type == 1

    trusted = get(network, 2, "/checkpoint")[1]
    for _ in range(2):
        network.submit(1, [new_identity()[1]])
    cosigned(network, 1, 2, {"size": 3, "quorum": "3 of 3"}, since=1)
    data = network.transport(1).prove(2, since=1)
    report = verify(data, network.genesis.bytes, trusted=trusted)
    assert report.ok, report.refusal

    with outside.told:  # the node that was told of it shows its line, in bundles too
        outside.told.wait_for(lambda: outside.newest.get(policy.logs[0].name, (0,))[0] == 3)
    [key] = map(str, outside.keys)
    has_reached(network.transport(0), 3)

    def shows_its_line() -> bool:
        data = network.transport(0).prove(2)
        return verify(data, network.genesis.bytes, witnesses=(key,)).ok

    while not shows_its_line():  # its answer may be on its way
        pass
    assert key in get(network, 0, "/policy")[1].decode()

    network.kill(0)
    network.start(0)
    assert policy.check(get(network, 0, "/checkpoint")[1]).size == 3
