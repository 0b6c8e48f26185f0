"""Policies: the grammar of the specification, and which checkpoints hold under one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import policies
from tilth_ledger.checkpoints import Checkpoint, cosign, cosign_mldsa, cosigner_name
from tilth_ledger.epochs import Signer, Signers
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_ledger.notes import Note, VerifierKey, sign_line
from tilth_ledger.policies import Group, Policy

ORIGIN = "example.com/log"
HEAD = Checkpoint(ORIGIN, 42, bytes(32))
KEYS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 8)]
LOG = SigningKey.from_seed(b"l" * 32)
MLDSA = MlDsaSigningKey.from_seed(b"m" * 32)
log = VerifierKey(ORIGIN, 1, LOG.public.raw)
w = [VerifierKey(f"w{n}", 4, key.public.raw) for n, key in enumerate(KEYS)]
quantum = VerifierKey("q", 6, MLDSA.public.raw)


def signed(*witnesses, log_key=LOG, head=HEAD, name=ORIGIN):
    lines = [sign_line(name, log_key, head.text)] if log_key else []
    lines += [cosign(f"w{n}", KEYS[n], head.text, 9) for n in witnesses]
    return Note(head.text, tuple(lines)).encode()


def test_the_example_of_the_specification_parses():
    text = f"""log {log}

witness X1 {w[0]}
witness X2 {w[1]}
witness X3 {w[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {w[3]}
witness Y2 {w[4]}
witness Y3 {w[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
    found = Policy.parse(text.encode())

    assert found.logs == (log,)
    assert found.witnesses[b"Y3"] == w[5]
    assert found.groups[b"X-witnesses"] == Group(2, (b"X1", b"X2", b"X3"))
    assert found.groups[b"Y-witnesses"].threshold == 1
    assert found.groups[b"X-and-Y"].threshold == 2
    assert found.check(signed(0, 1, 4)) == HEAD
    for missing in ((0, 4), (0, 1), (0, 1, 2), ()):
        with pytest.raises(InvalidInput, match="lacks cosignatures"):
            found.check(signed(*missing))


@pytest.mark.parametrize(
    "text",
    [
        "quorum none",
        f"\n# comment\n\t # another\n\twitness \t w1  {w[0]}  https://a.b/  \n\n quorum\tw1",
        f"log {log} https://log.example/\nwitness w1 {w[0]}\nquorum w1\n",
        f"witness all {w[0]}\nwitness any {w[1]}\ngroup group 2 all any\nquorum group\n",
        f"witness q {quantum}\nquorum q\n",
    ],
)
def test_what_the_grammar_allows_is_read(text):
    Policy.parse(text.encode())


def test_names_are_octets():
    found = Policy.parse(
        b"witness K\xe2\x84\xaa\x80 %s\nquorum K\xe2\x84\xaa\x80\n" % str(w[0]).encode()
    )

    assert list(found.witnesses) == [b"K\xe2\x84\xaa\x80"]


@pytest.mark.parametrize(
    "text",
    [
        "quorum none\n\x01",
        "quorum none\r\n",
        "quorum none\x7f",
        "quibble w1\nquorum none\n",
        f"witness w1 {w[0]} https://w1.example/ # comment\nquorum w1\n",
        "log\nquorum none\n",
        "log garbage\nquorum none\n",
        f"log {log}\nlog {log} https://log.example/\nquorum none\n",
        f"log {log}\nlog {VerifierKey('other', 1, log.key)}\nquorum none\n",
        "witness w1\nquorum none\n",
        f"witness w1 {log}\nquorum w1\n",
        f"witness none {w[0]}\nquorum none\n",
        f"witness w1 {w[0]}\nwitness w1 {w[1]}\nquorum w1\n",
        f"witness w1 {w[0]}\nwitness w2 {VerifierKey('other', 4, w[0].key)}\nquorum w1\n",
        f"witness w1 {w[0]}\ngroup w1 any w1\nquorum w1\n",
        f"witness w1 {w[0]}\ngroup g1 1\nquorum w1\n",
        f"witness w1 {w[0]}\ngroup none any w1\nquorum none\n",
        f"witness w1 {w[0]}\ngroup g1 0 w1\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 -1 w1\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 +1 w1\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 2 w1\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 any w2\nquorum g1\n",
        f"group g1 any w1\nwitness w1 {w[0]}\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 any none w1\nquorum g1\n",
        f"witness w1 {w[0]}\ngroup g1 all w1 w1\nquorum g1\n",
        f"witness w1 {w[0]}\nwitness w2 {w[1]}\ngroup g1 any w1 w2\ngroup g2 any w1\nquorum g1\n",
        f"witness w1 {w[0]}\n",
        f"witness w1 {w[0]}\nquorum w1\nquorum w1\n",
        "quorum unknown\n",
        f"quorum w1\nwitness w1 {w[0]}\n",
        "quorum\n",
        "",
    ],
    ids=range(32),
)
def test_what_the_grammar_forbids_is_refused(text):
    with pytest.raises(InvalidInput):
        Policy.parse(text.encode())


@given(st.binary(max_size=100))
def test_any_bytes_are_a_policy_or_invalid(data):
    with suppress(InvalidInput):
        Policy.parse(data)


def test_a_checkpoint_needs_a_log_of_its_own_origin():
    found = Policy.parse(f"log {log}\nwitness w0 {w[0]}\nquorum w0\n".encode())

    assert found.check(signed(0)) == HEAD
    with pytest.raises(InvalidInput, match="no log"):
        found.check(signed(0, log_key=None))
    with pytest.raises(InvalidInput, match="no log"):
        found.check(signed(0, head=Checkpoint("example.com/other", 42, bytes(32))))


def test_a_bad_line_of_a_listed_witness_spoils_the_checkpoint():
    found = Policy.parse(f"log {log}\nwitness w0 {w[0]}\nwitness w1 {w[1]}\nquorum w0\n".encode())
    note = Note.decode(signed(0, 1))
    bad = note.lines[2].__class__("w1", w[1].id, bytes(72))

    with pytest.raises(InvalidInput):
        found.check(Note(note.text, (*note.lines[:2], bad)).encode())


def test_a_policy_without_witnesses_needs_the_log_alone():
    assert Policy.parse(f"log {log}\nquorum none\n".encode()).check(signed()) == HEAD


def test_a_consortium_publishes_its_members_and_k():
    members = tuple(Signer(f"org-{n}", KEYS[n].public, KEYS[n + 3].public) for n in range(3))
    data = policies.write(ORIGIN, Signers(0, members, 2), "a consortium\nepoch 0")
    names = [cosigner_name(ORIGIN, m.organization) for m in members]

    lines = data.decode().splitlines()
    assert lines[:2] == ["# a consortium", "# epoch 0"]
    assert sum(line.startswith("log ") for line in lines) == 3
    assert lines[-2:] == [f"group members 2 {' '.join(names)}", "quorum members"]
    found = Policy.parse(data)
    log_line = sign_line(ORIGIN, KEYS[1], HEAD.text)
    both = [cosign(names[n], KEYS[n + 3], HEAD.text, 3) for n in (0, 2)]
    assert found.check(Note(HEAD.text, (log_line, *both)).encode()) == HEAD
    with pytest.raises(InvalidInput, match="lacks"):
        found.check(Note(HEAD.text, (log_line, both[0])).encode())


def test_mldsa_witnesses_count_like_others():
    found = Policy.parse(f"log {log}\nwitness q {quantum}\nquorum q\n".encode())
    lines = (sign_line(ORIGIN, LOG, HEAD.text), cosign_mldsa("q", MLDSA, HEAD.text, 0))

    assert found.check(Note(HEAD.text, lines).encode()) == HEAD
