"""A node asks witnesses outside: over real sockets, of a witness written to the specification."""

import asyncio
import json

import pytest
from cosigning_net import GENESIS, KEYS, MEMBERS, ORIGIN, RESULT, History
from witness_server import Witness, log_keys, tls_of

from tilth import verifier
from tilth_ledger.checkpoints import Checkpoint
from tilth_ledger.cosigning import OUTSIDE
from tilth_ledger.errors import InvalidInput
from tilth_ledger.notes import COSIGNATURE, ED25519, MLDSA_COSIGNATURE, Note, VerifierKey
from tilth_ledger.policies import Policy
from tilth_node.config import load
from tilth_node.http.asking import AskLimits
from tilth_node.proving import Prover
from tilth_node.witness_address import WitnessAddress
from tilth_node.witnesses import Witnesses

LONG = 100


@pytest.fixture
async def asking(net):
    """Starts witnesses, and lets a node ask them."""
    opened, tasks = [], []

    def witness(**choices):
        logs = choices.pop("logs", None) or log_keys(ORIGIN, MEMBERS)
        opened.append(Witness(logs, **choices))
        return opened[-1]

    def ask(node, *witnesses, every=0.01, authority="", scheme="http", **limits):
        addresses = [
            WitnessAddress.parse(
                f"{scheme}://127.0.0.1:{each.port}/prefix/",
                tuple(map(str, each.keys)),
                plain_http=False,
            )
            for each in witnesses
        ]
        part = Witnesses(
            addresses, node.part, node.ledger, every, authority, 0.004, AskLimits(**limits)
        )
        node.rang = asyncio.Event()

        def ring(kind, words):
            node.alarms.append((kind, words))
            rang, node.rang = node.rang, asyncio.Event()
            rang.set()

        part.on_alarm = ring
        node.part.publisher.outside = [key for each in addresses for key in each.keys]
        tasks.append(asyncio.create_task(part.run()))
        return part

    yield witness, ask
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for each in opened:
        await asyncio.to_thread(each.close)


def judged(data, *witnesses):
    """What the verifier says of a bundle without its votes, which these histories lack."""
    value = {k: v for k, v in json.loads(data).items() if k not in ("header", "certificate")}
    return verifier.verify(json.dumps(value).encode(), GENESIS.bytes, witnesses=witnesses)


async def witnessed(node, size, by=1):
    """The head of that size, once so many outside lines on it are stored."""
    async with asyncio.timeout(LONG):
        while True:
            grown = node.part._grown
            held = node.store.held(size)
            if held is not None and sum(bool(kind & OUTSIDE) for _, kind in held.signatures) >= by:
                return held
            await grown.wait()


async def alarmed(node, holds):
    """The first alarm whose words are like this."""
    async with asyncio.timeout(LONG):
        while not (found := [words for _, words in node.alarms if holds(words)]):
            await node.rang.wait()
    return found[0]


async def requests(witness, count, seconds=LONG):
    """The requests that a witness got, once they are so many or the time is over."""

    def wait():
        with witness.told:
            witness.told.wait_for(lambda: len(witness.asked) >= count, seconds)

    await asyncio.to_thread(wait)
    return witness.asked


async def test_a_witness_cosigns_each_head_that_the_members_completed(net, asking):
    start, ask = asking
    witness, history = start(), History().grow(3)
    net.follow(history)
    ask(net["north"], witness)
    await witnessed(net["north"], 3)
    net.follow(history.grow(4).grow(1))
    held = await witnessed(net["north"], 8)

    assert [each[:2] for each in witness.asked[:1]] == [(0, 3)]
    assert {status for _, _, status in witness.asked} == {200}
    assert witness.newest[ORIGIN] == (8, held.head.root)
    note = net["north"].part.publisher.checkpoint(held)
    policy = Policy.parse(net["north"].part.publisher.policy(0))
    assert policy.check(note) == Checkpoint(ORIGIN, 8, held.head.root)
    [key] = witness.keys
    assert policy.witnesses[b"witness.example/w1/0x04"] == key
    assert any(line.key_id == key.id for line in Note.decode(note).lines)
    strict = Policy.parse(
        net["north"]
        .part.publisher.policy(0)
        .replace(
            b"quorum members\n", b"group both 2 members witness.example/w1/0x04\nquorum both\n"
        )
    )
    assert strict.check(note).size == 8
    with pytest.raises(InvalidInput, match="lacks cosignatures"):
        strict.check(net["south"].part.publisher.checkpoint(await net["south"].cosigned(7)))


async def test_lines_of_witnesses_stand_in_bundles_and_proof_files(net, asking):
    start, ask = asking
    witness, history = start(quantum=True), History().grow(3)
    net.follow(history)
    ask(net["north"], witness)
    await witnessed(net["north"], 3, by=2)
    prover = Prover(GENESIS, net["north"].ledger, net["north"].part)
    for key in map(str, witness.keys):
        report = judged(await prover.bundle(1), key)
        assert report.ok, report.refusal
        assert any("witness.example/w1, outside the consortium" in t for t in report.proven)
    assert b"witness.example/w1" in await prover.proof(1)
    # A newer head that no witness has seen yet is no reason to leave the witness out.
    witness.misbehave = lambda body, answer: (503, b"", {})
    net.follow(history.grow(2))
    await net["north"].cosigned(above=3)
    assert json.loads(await prover.bundle(1))["checkpoint"].startswith(f"{ORIGIN}\n3\n")
    assert json.loads(await prover.bundle(4))["checkpoint"].startswith(f"{ORIGIN}\n5\n")


async def test_the_head_that_audits_want_in_ten_years_is_witnessed_too(net, asking):
    start, ask = asking
    witness, history = start(), History().grow(2).grow(RESULT)
    net.follow(history)
    await net["north"].cosigned(above=2)
    async with asyncio.timeout(LONG):
        while net["north"].part.newest_complete(kind=MLDSA_COSIGNATURE) is None:
            await net["north"].part.grown()
    net.follow(history.grow(1))
    await net["north"].cosigned(above=3)
    ask(net["north"], witness)
    await witnessed(net["north"], 4)

    assert [each[1] for each in witness.asked] == [3, 4]


async def test_a_node_that_knows_nothing_of_the_past_learns_it_from_the_witness(net, asking):
    """Another node told the witness before: 409 with the size, and again from there."""
    start, ask = asking
    witness, history = start(), History().grow(3)
    net.follow(history)
    ask(net["north"], witness)
    await witnessed(net["north"], 3)
    ask(net["south"], witness)
    await witnessed(net["south"], 3)
    assert witness.asked == [(0, 3, 200), (0, 3, 409), (3, 3, 200)]

    net.follow(history.grow(2))
    await witnessed(net["north"], 5)
    await witnessed(net["south"], 5)
    assert net["north"].alarms == net["south"].alarms == []


async def test_after_a_restart_a_node_goes_on_where_it_was(net, asking):
    start, ask = asking
    witness, history = start(), History().grow(3)
    net.follow(history)
    ask(net["north"], witness)
    await witnessed(net["north"], 3)
    again = start(seed=5)
    again.newest = dict(witness.newest)
    net.follow(history.grow(2))
    await net["north"].cosigned(above=3)
    ask(net["north"], again)

    assert await requests(again, 1) == [(3, 5, 200)]


ANSWERS = [
    (lambda body, answer: (404, b"", {}), "add this log"),
    (lambda body, answer: (403, b"", {}), "log keys of GET /policy"),
    (lambda body, answer: (400, b"", {}), "disagree on the form"),
    (lambda body, answer: (422, b"", {}), "another history, or it lies"),
    (lambda body, answer: (409, b"0\n", {}), "another tree of that size"),
    (lambda body, answer: (409, b"03\n", {}), "no witness may"),
    (lambda body, answer: (409, b"9000000000000000000\n", {}), "cosigned size 9000000"),
    (lambda body, answer: (200, b"", {}), "no witness may"),
    (lambda body, answer: (200, b"\xff\n", {}), "no witness may"),
    (lambda body, answer: (200, answer[:-1], {}), "no witness may"),
    (lambda body, answer: (200, answer.replace(b"/w1", b"/w2"), {}), "no witness may"),
    (lambda body, answer: (200, answer[:-9] + b"AAAAAAA=\n", {}), "no witness may"),
    (lambda body, answer: (200, answer * 101, {}), "no witness may"),
    (lambda body, answer: (200, b"x" * 70_000, {}), "more than 65536 bytes"),
    (lambda body, answer: (301, b"", {"location": "http://127.0.0.1:1/"}), "status 301"),
    (lambda body, answer: (503, b"", {}), "status 503"),
    (lambda body, answer: (200, b"", {"x": "y" * 60_000}), "does not answer"),
]


async def test_an_answer_that_is_no_line_is_never_shown_and_is_forgiven(net, asking):
    start, ask = asking
    witness, history, north = start(), History(), net["north"]
    ask(north, witness)
    for misbehaviour, word in ANSWERS:
        witness.misbehave = misbehaviour
        net.follow(history.grow(1))
        await alarmed(north, lambda words, word=word: word in words)
        size = history.frontier.size
        assert not any(kind & OUTSIDE for _, kind in north.store.held(size).signatures), word
        witness.misbehave = None
        await witnessed(north, size)
        await alarmed(north, lambda words: not words)
        north.alarms.clear()


async def test_a_line_on_another_head_is_refused(net, asking):
    start, ask = asking
    witness = start()
    other = Checkpoint(ORIGIN, 3, bytes(32)).text
    witness.misbehave = lambda body, answer: (200, witness.lines(other), {})
    net.follow(History().grow(3))
    ask(net["north"], witness)

    await alarmed(net["north"], lambda words: "no witness may" in words)
    held = net["north"].store.held(3)
    assert not any(kind & OUTSIDE for _, kind in held.signatures)


async def test_one_that_stalls_or_is_gone_delays_neither_others_nor_proofs(net, asking):
    start, ask = asking
    slow, gone, good = start(), start(name="gone.example"), start(name="good.example", seed=6)
    slow.misbehave = lambda body, answer: slow.stall() or (200, b"", {})
    await asyncio.to_thread(gone.close)
    net.follow(History().grow(3))
    ask(net["north"], slow, gone, good, total_seconds=0.2)
    held = await witnessed(net["north"], 3)

    assert {name for name, kind in held.signatures if kind & OUTSIDE} == {str(good.keys[0])}
    for name in ("witness.example/w1", "gone.example"):
        words = await alarmed(net["north"], lambda words, n=name: f"{n} gives no line" in words)
        assert "does not answer" in words
    prover = Prover(GENESIS, net["north"].ledger, net["north"].part)
    report = judged(await prover.bundle(0), str(good.keys[0]))
    assert report.ok, report.refusal


async def test_one_that_asks_for_patience_is_given_it(net, asking):
    start, ask = asking
    witness = start()
    witness.misbehave = lambda body, answer: (429, b"", {"retry-after": "3600"})
    net.follow(History().grow(3))
    ask(net["north"], witness)

    await requests(witness, 1)
    assert len(await requests(witness, 2, seconds=0.3)) == 1  # many times its usual wait


async def test_the_certificate_and_the_name_of_a_witness_are_verified(net, asking, tmp_path):
    start, ask = asking
    (here, file), (other, elsewhere) = (
        tls_of(tmp_path, name) for name in ("127.0.0.1", "w.example")
    )
    known, unknown = start(name="known.example", tls=here), start(name="unknown", tls=here)
    named = start(name="named", tls=other)
    net.follow(History().grow(3))
    ask(net["north"], known, scheme="https", authority=file)
    ask(net["south"], unknown, scheme="https")
    ask(net["west"], named, scheme="https", authority=elsewhere)

    await witnessed(net["north"], 3)
    for node in (net["south"], net["west"]):
        words = await alarmed(node, lambda words: "gives no line" in words)
        assert "certificate verify failed" in words
    assert unknown.asked == named.asked == []


async def test_a_file_of_authorities_that_cannot_be_read_is_named(net, asking, tmp_path):
    start, ask = asking
    witness = start()
    (tmp_path / "garbage").write_text("no certificate")
    for file in ("nowhere", "garbage"):
        with pytest.raises(InvalidInput, match="authority in node"):
            ask(net["north"], witness, authority=str(tmp_path / file))


async def test_a_line_that_the_disk_changed_is_left_out(net, asking):
    start, ask = asking
    witness = start()
    net.follow(History().grow(3))
    ask(net["north"], witness)
    held = await witnessed(net["north"], 3)
    [(name, kind)] = [key for key in held.signatures if key[1] & OUTSIDE]
    bad = held.signatures[name, kind][:-1] + bytes([held.signatures[name, kind][-1] ^ 1])
    spoiled = type(held)(held.head, {**held.signatures, (name, kind): bad})
    note = net["north"].part.publisher.checkpoint(spoiled)

    assert witness.name not in note.decode()
    assert any("gave back" in words for _, words in net["north"].alarms)


async def test_quiet_heads_that_a_witness_signed_are_not_forgotten(net, asking):
    start, ask = asking
    witness, history = start(), History().grow(3)
    net.follow(history)
    ask(net["north"], witness)
    await witnessed(net["north"], 3)
    witness.misbehave = lambda body, answer: (503, b"", {})
    for _ in range(12):
        net.follow(history.grow(1))
        await net["north"].cosigned(above=history.frontier.size - 1)

    assert net["north"].part.newest_witnessed(0).head.size == 3
    assert net["north"].store.held(4) is None
    assert net["north"].part.newest_witnessed(3) is None


def test_what_an_operator_writes_is_checked(tmp_path):
    def read(text):
        (tmp_path / "node.toml").write_text(f'organization = "a"\n{text}')
        return load(tmp_path)

    good = str(VerifierKey("w.example", COSIGNATURE, KEYS["north"].all["cosign"].public.raw))
    log = str(VerifierKey("w.example", ED25519, KEYS["north"].all["log"].public.raw))
    found = read(f'[witnesses]\n"https://w.example/x" = "{good}"')
    assert found.witnesses == {"https://w.example/x": (good,)}
    assert read(f'[witnesses]\n"http://127.0.0.1:8/x" = ["{good}"]').witnesses
    assert read(f'[witness]\nplain_http = true\n[witnesses]\n"http://w.example" = "{good}"')
    for wrong in (
        f'"http://w.example/x" = "{good}"',
        f'"ftp://w.example/x" = "{good}"',
        f'"https://w.example/x?a" = "{good}"',
        f'"https://u@w.example/x" = "{good}"',
        f'"https://" = "{good}"',
        f'"https://w.example/x" = "{good[:-1]}"',
        f'"https://w.example/x" = "{log}"',
        '"https://w.example/x" = []',
        '"https://w.example/x" = 5',
    ):
        with pytest.raises(InvalidInput, match=r"node\.toml"):
            read(f"[witnesses]\n{wrong}")
