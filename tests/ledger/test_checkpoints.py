"""Checkpoints and cosignatures: the specifications' forms, and what each signature covers."""

from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.checkpoints import (
    MAX_TIME,
    Checkpoint,
    CosignatureVerifier,
    MlDsaVerifier,
    cosign,
    cosign_mldsa,
    cosigned_message,
    cosigned_text,
    origin_of,
    split_time,
    verifier,
)
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.mldsa import MlDsaKey, MlDsaSigningKey
from tilth_ledger.notes import Line, Note, NoteVerifier, VerifierKey, open_note

# c2sp.org/tlog-cosignature: the checkpoint of its example with the witness' line.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2o"
    "yin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
HEAD = Checkpoint("example.com/log", 123, bytes(range(32)))
KEY = SigningKey.from_seed(b"c" * 32)
MLDSA = MlDsaSigningKey.from_seed(KEY.derive_seed("mldsa"))
NAME = "example.com/log/west"


def cosigned(time=1_700_000_000, head=HEAD):
    line = cosign(NAME, KEY, head.text, time)
    return Note(head.text, (line,)).encode(), CosignatureVerifier(
        VerifierKey(NAME, 4, KEY.public.raw)
    )


def mldsa_cosigned(time=1_700_000_000, head=HEAD):
    line = cosign_mldsa(NAME, MLDSA, head.text, time)
    key = VerifierKey(NAME, 6, MLDSA.public.raw)
    return Note(head.text, (line,)).encode(), MlDsaVerifier(key)


def test_the_example_of_the_specification_reads_as_it_says():
    note = Note.decode(EXAMPLE.encode())
    head = Checkpoint.parse(note.text)

    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert head.text == note.text
    assert note.encode() == EXAMPLE.encode()
    time, signature = split_time(note.lines[1].signature, 64)
    assert (time, len(signature)) == (1679315147, 64)
    assert cosigned_text(note.text, time) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )


def test_a_subtree_cosigned_by_another_implementation_verifies():
    # Key and signature made by filippo.io/torchwood, in the tests of transparency-dev/formats.
    lines = (Path(__file__).parent / "vectors" / "mldsa_subtree.txt").read_text().splitlines()
    check, line = MlDsaVerifier(VerifierKey.parse(lines[0])), Line.parse(lines[1])
    root = b64decode("E7ERCtFloiK1fdb+B6/dLG0pM1nmIR0ETKBSauCjtVw=")

    assert line.key_id == check.key.id
    check.verify_subtree("example.com/log", 8, 13, root, line.signature)
    for origin, start, end in (("x", 8, 13), ("example.com/log", 8, 12)):
        with pytest.raises(InvalidInput):
            check.verify_subtree(origin, start, end, root, line.signature)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        f"\n1\n{'A' * 43}=\n",
        f"o\n01\n{'A' * 43}=\n",
        f"o\n-1\n{'A' * 43}=\n",
        f"o\n+1\n{'A' * 43}=\n",
        f"o\n1_0\n{'A' * 43}=\n",
        f"o\n１\n{'A' * 43}=\n",
        f"o\n9223372036854775808\n{'A' * 43}=\n",
        f"o\n1\n{'A' * 42}==\n",
        f"o\n1\n{'A' * 42}B=\n",
        f"o\n1\n{'A' * 43}=",
        f"o\n1\n{'A' * 43}=\n\n",
        f"o\n1\n{'A' * 43}=\nx\n\ny\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text):
    with pytest.raises(InvalidInput):
        Checkpoint.parse(text)


def test_extension_lines_are_kept_and_covered_by_ed25519_alone():
    head = Checkpoint("o", 1, bytes(32), ("first", "second line"))
    data, check = cosigned(head=head)

    assert Checkpoint.parse(head.text) == head
    assert open_note(data, [check]).text == head.text
    with pytest.raises(InvalidInput):
        open_note(data.replace(b"second", b"Second"), [check])
    with pytest.raises(InvalidInput):
        mldsa_cosigned(head=head)
    line = cosign_mldsa(NAME, MLDSA, Checkpoint("o", 1, bytes(32)).text, 5)
    with pytest.raises(InvalidInput, match="extension"):
        MlDsaVerifier(VerifierKey(NAME, 6, MLDSA.public.raw)).verify(head.text, line.signature)


@given(
    st.builds(
        Checkpoint,
        st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1),
        st.integers(0, 2**63 - 1),
        st.binary(min_size=32, max_size=32),
    )
)
def test_what_is_written_reads_back(head):
    assert Checkpoint.parse(head.text) == head


@given(st.text(max_size=120))
def test_any_text_is_a_checkpoint_or_invalid(text):
    with suppress(InvalidInput):
        assert Checkpoint.parse(text).text == text


@pytest.mark.parametrize("make", [cosigned, mldsa_cosigned])
@pytest.mark.parametrize("time", [0, 1, MAX_TIME])
def test_a_cosignature_opens_its_checkpoint(make, time):
    data, check = make(time=time)

    opened = open_note(data, [check])
    assert opened.signed[0].name == NAME
    assert int.from_bytes(opened.signed[0].signature[:8]) == time


def test_any_changed_byte_of_a_cosigned_checkpoint_fails():
    data, check = cosigned()

    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(InvalidInput):
            open_note(bytes(changed), [check])


def test_changed_parts_of_an_mldsa_cosignature_fail():
    data, check = mldsa_cosigned()
    signed = b64decode(data.rsplit(b" ", 1)[1])

    for wrong in (
        data.replace(b"example.com/log\n", b"example.com/lug\n"),
        data.replace(b"\n123\n", b"\n124\n"),
        data.replace(b64encode(signed), b64encode(signed[:11] + b"\1" + signed[12:])),
        data.replace(b64encode(signed), b64encode(signed[:-1] + bytes([signed[-1] ^ 1]))),
        data.replace(b64encode(signed), b64encode(signed[:-1])),
    ):
        assert wrong != data
        with pytest.raises(InvalidInput):
            open_note(wrong, [check])


def test_an_mldsa_cosignature_is_of_its_name_alone():
    line = cosign_mldsa(NAME, MLDSA, HEAD.text, 7)
    other = MlDsaVerifier(VerifierKey("example.com/log/east", 6, MLDSA.public.raw))

    with pytest.raises(InvalidInput):
        other.verify(HEAD.text, line.signature)


def test_the_cosigned_message_has_the_layout_of_the_specification():
    message = cosigned_message("w", 0, "log", 4, 8, bytes(32))

    assert message == (
        b"subtree/v1\n\0" + b"\1w" + bytes(8) + b"\3log" + bytes(7) + b"\4" + bytes(7) + b"\x08"
    ) + bytes(32)


@pytest.mark.parametrize(
    ("name", "time", "start", "end"),
    [
        ("", 0, 0, 1),
        ("w" * 256, 0, 0, 1),
        ("w", 1, 4, 8),
        ("w", 0, 5, 4),
        ("w", MAX_TIME + 1, 0, 1),
        ("w", -1, 0, 1),
    ],
)
def test_an_impossible_cosigned_message_is_refused(name, time, start, end):
    with pytest.raises(InvalidInput):
        cosigned_message(name, time, "log", start, end, bytes(32))


def test_times_beyond_63_bits_and_wrong_lengths_are_refused():
    with pytest.raises(InvalidInput):
        split_time(b"\xff" * 8 + bytes(64), 64)
    with pytest.raises(InvalidInput):
        split_time(bytes(71), 64)
    with pytest.raises(InvalidInput):
        cosign(NAME, KEY, HEAD.text, 2**63)


def test_a_type_has_the_verifier_that_the_specification_gives_it():
    key = KEY.public.raw

    assert isinstance(verifier(VerifierKey("n", 1, key)), NoteVerifier)
    assert isinstance(verifier(VerifierKey("n", 4, key)), CosignatureVerifier)
    assert isinstance(verifier(VerifierKey("n", 6, MLDSA.public.raw)), MlDsaVerifier)
    assert len({VerifierKey("n", kind, key).id for kind in (1, 4)}) == 2


def test_the_origin_is_the_name_and_the_beginning_of_the_net():
    assert origin_of("cancer-2026", "0123456789abcdef" * 4) == "cancer-2026/0123456789abcdef"


def test_mldsa_keys_come_from_their_seed_and_hide_it():
    again = MlDsaSigningKey.from_seed(KEY.derive_seed("mldsa"))

    assert again.public == MLDSA.public
    assert MlDsaKey.from_hex(MLDSA.public.hex) == MLDSA.public
    assert KEY.derive_seed("mldsa").hex() not in repr(MLDSA)
    for wrong in (b"", bytes(31)):
        with pytest.raises(InvalidInput):
            MlDsaSigningKey.from_seed(wrong)
        with pytest.raises(InvalidInput):
            MlDsaKey(wrong)
