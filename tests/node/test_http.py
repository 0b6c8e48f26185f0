"""The HTTP port, asked by a real client and by hostile sockets."""

import asyncio
import gzip
import hashlib
import http.client
import json
import re
from dataclasses import replace

import pytest
from cosigning_net import GENESIS, ORIGIN, History

from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import leaf_hash, root_of, verify_inclusion
from tilth_ledger.policies import Policy
from tilth_ledger.proofs import TlogProof
from tilth_ledger.tiles import Tile, read_entry_bundle, tiles_of
from tilth_node.clock import Clock
from tilth_node.http.answers import Answers
from tilth_node.http.limits import HttpLimits
from tilth_node.http.listener import listen
from tilth_node.proving import Prover

HEAD = b"GET /checkpoint HTTP/1.1\r\nhost: x\r\n"


class Served:
    """A listener over one node's stores, and ways to ask it."""

    def __init__(self, node, genesis=GENESIS, **limits):
        self.node = node
        prover = Prover(genesis, node.ledger, node.part)
        pages = Answers(genesis, node.ledger, node.part, prover.bundle, prover.proof)
        self.listener, self.address = listen(
            "127.0.0.1:0", pages.answer, Clock(), HttpLimits(**limits)
        )
        self.host, _, port = self.address.rpartition(":")
        self.port = int(port)

    async def get(self, target, method="GET", body=None, **headers):
        """Status, headers and body, by Python's own client."""

        def ask():
            client = http.client.HTTPConnection(self.host, self.port, timeout=100)
            client.request(method, target, body=body, headers=headers)
            answer = client.getresponse()
            found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            client.close()
            return found

        return await asyncio.to_thread(ask)

    async def raw(self, data, *, end=True):
        """What comes back for these bytes until the other side closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        if end:
            writer.write_eof()
        try:
            async with asyncio.timeout(100):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def serve(net):
    """Serves the first node's ledger: 300 entries, cosigned by all."""
    history = History().grow(300)
    net.follow(history)
    await net["north"].cosigned()
    served = []

    async def make(**choices):
        served.append(Served(net["north"], **choices))
        await served[-1].listener.start()
        return served[-1]

    yield make
    for each in served:
        await each.listener.stop(0)


async def test_a_mirror_rebuilds_the_tree_from_what_is_served(serve, net):
    site = await serve()
    status, headers, policy = await site.get("/policy")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    status, headers, note = await site.get("/checkpoint")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    head = Policy.parse(policy).check(note)
    assert (head.origin, head.size) == (ORIGIN, 300)

    leaves = []
    for tile in (Tile(None, 0), tiles_of(300)[0]):
        status, headers, body = await site.get(f"/{tile.path}")
        assert (status, headers["content-type"]) == (200, "application/octet-stream")
        leaves += read_entry_bundle(body, tile.width)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    assert root_of(hashes) == head.root
    for tile in (Tile(0, 0), *tiles_of(300)[1:]):
        _, headers, body = await site.get(f"/{tile.path}")
        expected = (
            hashes[tile.start : tile.start + tile.width]
            if tile.level == 0
            else [root_of(hashes[:256])]
        )
        assert body == b"".join(expected)
        assert "immutable" in headers["cache-control"]
    assert (await site.get("/tile/0/000"))[1]["cache-control"].startswith(
        "public, max-age=31536000"
    )


async def test_a_proof_file_proves_its_entry(serve):
    site = await serve()
    policy = Policy.parse((await site.get("/policy"))[2])
    proof = TlogProof.decode((await site.get("/proof/299.tlog-proof"))[2])
    head = policy.check(proof.checkpoint)

    verify_inclusion(leaf_hash(proof.extra), 299, head.size, proof.path, head.root)
    assert (await site.get("/proof/300.tlog-proof"))[0] == 404


async def test_genesis_bundle_and_index_are_there(serve):
    site = await serve()

    assert hashlib.sha256((await site.get("/genesis.json"))[2]).hexdigest() == GENESIS.net
    assert (await site.get("/bundle/5"))[1]["content-type"] == "application/json"
    assert b"/checkpoint" in (await site.get("/"))[2]
    known = json.loads((await site.get("/bundle/5/since/7"))[2])["consistency"]
    assert known["size"] == 7
    assert [(await site.get(f"/bundle/5/since/{size}"))[0] for size in (0, 301)] == [404, 404]
    assert (await site.get("/policy/0"))[2] == (await site.get("/policy"))[2]


async def test_what_does_not_exist_is_404_and_not_kept_by_caches(serve):
    site = await serve()
    for target in (
        "/x",
        "/tile/0/001",
        "/tile/0/001.p/45",
        "/tile/2/000.p/1",
        "/tile/entries/x001/000",
        "/bundle/300",
        "/policy/1",
        "/../../etc/passwd",
        "/ledger.db",
    ):
        status, headers, _ = await site.get(target)
        assert (status, headers["cache-control"]) == (404, "no-store"), target


async def test_a_ledger_of_organizations_shows_heads_and_policies_alone(serve):
    site = await serve(genesis=replace(GENESIS, publication="organizations"))
    found = {}
    for target in ("/", "/checkpoint", "/policy", "/genesis.json", "/tile/0/000", "/bundle/0"):
        found[target] = (await site.get(target))[0]
    for target in ("/tile/entries/000", "/proof/0.tlog-proof"):
        found[target] = (await site.get(target))[0]

    assert found == {
        "/": 200,
        "/checkpoint": 200,
        "/policy": 200,
        "/genesis.json": 403,
        "/tile/0/000": 403,
        "/tile/entries/000": 403,
        "/bundle/0": 403,
        "/proof/0.tlog-proof": 403,
    }


async def test_a_node_without_a_cosigned_head_has_no_checkpoint(net):
    site = Served(net["north"])
    await site.listener.start()
    assert (await site.get("/checkpoint"))[0] == 404
    await site.listener.stop(0)


async def test_head_has_the_headers_of_get_and_no_body(serve):
    site = await serve()
    _, asked, body = await site.get("/tile/0/000")
    status, headers, nothing = await site.get("/tile/0/000", "HEAD")

    assert (status, nothing) == (200, b"")
    assert headers["content-length"] == asked["content-length"] == str(len(body))


async def test_a_client_that_knows_the_checkpoint_is_told_so(serve):
    site = await serve()
    _, headers, _ = await site.get("/checkpoint")
    status, again, body = await site.get("/checkpoint", **{"If-None-Match": headers["etag"]})

    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    for unknown in ('"x"', "W/x", ""):
        assert (await site.get("/checkpoint", **{"If-None-Match": unknown}))[0] == 200
    for known in (f"W/{headers['etag']}", f'"x", {headers["etag"]}', "*"):
        assert (await site.get("/checkpoint", **{"If-None-Match": known}))[0] == 304


async def test_entries_are_compressed_for_who_takes_that(serve):
    site = await serve()
    plain = (await site.get("/tile/entries/000"))[2]
    _, headers, body = await site.get("/tile/entries/000", **{"Accept-Encoding": "gzip"})

    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "accept-encoding"
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain)
    for accepted in ("gzip;q=0", "GZIP; q=0.000", "identity", "x-gzipped"):
        _, headers, body = await site.get("/tile/entries/000", **{"Accept-Encoding": accepted})
        assert ("content-encoding" not in headers, body) == (True, plain)


async def test_large_bundles_are_sent_as_they_are(net):
    net.follow(History().grow(*(bytes([1, 0, 1]) + bytes(60_000) for _ in range(10))))
    site = Served(net["north"])
    await site.listener.start()
    _, headers, body = await site.get("/tile/entries/000.p/10", **{"Accept-Encoding": "gzip"})
    await site.listener.stop(0)

    assert "content-encoding" not in headers
    assert len(body) == 10 * (2 + 60_003)


async def test_nothing_but_get_and_head_is_served(serve):
    site = await serve()
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        status, headers, _ = await site.get("/checkpoint", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert (await site.get("/checkpoint", "POST", b"x"))[0] == 405  # with a body, too


async def test_a_request_with_a_body_is_refused(serve):
    site = await serve()
    assert (await site.get("/checkpoint", body=b"x"))[0] == 400
    for framing in (b"content-length: 5\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"):
        assert b" 400 " in await site.raw(HEAD + framing)


HOSTILE = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"400"),  # TLS
    (b"GET /checkpoint\r\n\r\n", b"400"),
    (b"GET /checkpoint HTTP/1.1\r\n\r\n", b"400"),  # no host
    (b"GET  HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\x00: d\r\n\r\n", b"400"),
    (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", b"400"),
    (HEAD + b"content-length: -1\r\n\r\n", b"400"),
    (HEAD + b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
    (HEAD + b"transfer-encoding: gzip\r\n\r\n", b"400"),
    (HEAD + b"x: " + b"y" * 30_000 + b"\r\n\r\n", b"431"),
    (HEAD + b"x: y\r\n" * 6_000 + b"\r\n", b"431"),
    (b"GET /" + b"a" * 30_000, b"431"),
    (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"405"),
    (b"GET /checkpoint HTTP/1.0\r\n\r\n", b"200"),
    (b"GET http://x/checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"200"),
    (b"GET /\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"400"),
]


async def test_hostile_bytes_get_a_short_no_and_the_connection_ends(serve):
    site = await serve()
    for data, status in HOSTILE:
        answer = await site.raw(data)
        assert answer.split(b" ")[1:2] == [status], (data[:80], answer[:200])
    assert (await site.get("/checkpoint"))[0] == 200


async def test_a_client_that_says_nothing_or_never_ends_is_let_go(serve):
    site = await serve(head_seconds=0.2)

    assert await site.raw(b"", end=False) == b""
    assert await site.raw(HEAD, end=False) == b""
    answer = b""
    while not answer:  # a machine that stands still meanwhile lets this one go too
        answer = await site.raw(HEAD + b"\r\n", end=False)  # one answer, then idle
    assert answer.startswith(b"HTTP/1.1 200")


async def test_requests_of_one_connection_are_answered_in_order_and_bounded(serve):
    site = await serve(requests_of_one_connection=3)
    answer = await site.raw(
        b"GET /policy HTTP/1.1\r\nhost: x\r\n\r\nGET /x HTTP/1.1\r\nhost: x\r\n\r\n"
        + (HEAD + b"\r\n") * 5
    )

    assert re.findall(rb"HTTP/1.1 ([0-9]+)", answer) == [b"200", b"404", b"200"]


async def test_connections_are_bounded_in_all_and_for_one_address(serve):
    site = await serve(connections_of_one_address=2)
    held = [await asyncio.open_connection(site.host, site.port) for _ in range(2)]
    for _, writer in held:
        writer.write(HEAD + b"\r\n")
    for reader, _ in held:
        await reader.readuntil(b"\r\n")
    status, headers, _ = await site.get("/checkpoint")
    assert (status, headers["connection"]) == (503, "close")
    for _, writer in held:
        writer.close()


async def test_connections_beyond_the_bounds_are_ended_though_they_ask_nothing(serve):
    site = await serve(connections_of_one_address=2)
    held = [await asyncio.open_connection(site.host, site.port) for _ in range(2)]
    answers = await asyncio.gather(*(site.raw(b"", end=False) for _ in range(40)))

    assert {answer.split()[1] for answer in answers} == {b"503"}
    assert site.listener.connections == 2
    for _, writer in held:
        writer.close()


async def test_requests_beyond_the_budget_are_told_to_wait(serve):
    site = await serve(burst_ms=1.0, budget_ms_per_second=0.001, least_cost_ms=2.0)
    assert (await site.get("/checkpoint"))[0] == 200
    status, headers, _ = await site.get("/checkpoint")

    assert (status, headers["retry-after"]) == (429, "1")


async def test_a_client_that_does_not_read_is_let_go(serve):
    site = await serve(send_seconds=0.3)
    request = b"GET /tile/entries/000 HTTP/1.1\r\nhost: x\r\n\r\n"
    _, writer = await asyncio.open_connection(site.host, site.port, limit=1 << 10)
    writer.write(request * 400)  # 40 MB of answers
    async with asyncio.timeout(100):
        await site.listener.ended.wait()
    writer.close()

    assert site.listener.connections == 0


async def test_an_address_that_is_taken_is_an_error_with_words(serve):
    site = await serve()
    with pytest.raises(InvalidInput, match="cannot listen"):
        listen(site.address, None, Clock())
