"""Signed notes: the form of the specification, and whose signatures count."""

from base64 import b64decode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SigningKey
from tilth_ledger.notes import (
    COSIGNATURE,
    MAX_LINES,
    Line,
    Note,
    NoteVerifier,
    VerifierKey,
    check_name,
    open_note,
    sign_line,
)

# golang.org/x/mod/sumdb/note: the note of its documentation, the seed and a second signer.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
BY_ENOCH = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33W"
    "Wd1RvMc+QQ=\n"
)
# c2sp.org/signed-note, the example of its first page.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU"
    "0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)


def known(*keys):
    return [NoteVerifier(VerifierKey.parse(key)) for key in keys]


def note(*lines, text=TEXT):
    return f"{text}\n{''.join(lines)}".encode()


def signer(number=1, name="example.com/log"):
    key = SigningKey.from_seed(bytes([number]) * 32)
    return key, VerifierKey(name, 1, key.public.raw)


def test_a_note_of_the_go_module_proxy_opens_and_unknown_lines_are_ignored():
    opened = open_note(note(BY_PETER, BY_ENOCH), known(PETER))

    assert opened.text == TEXT
    assert [line.name for line in opened.signed] == ["PeterNeumann"]
    assert [line.name for line in opened.unknown] == ["EnochRoot"]
    assert opened.by(VerifierKey.parse(PETER)) == opened.signed[0]
    assert opened.by(VerifierKey.parse(ENOCH)) is None
    assert len(open_note(note(BY_PETER, BY_ENOCH), known(PETER, ENOCH)).signed) == 2


def test_our_signature_is_byte_for_byte_that_of_the_go_module_proxy():
    seed = b64decode(PETER_SEED.split("+", 4)[4])[1:]
    line = sign_line("PeterNeumann", SigningKey.from_seed(seed), TEXT)

    assert f"{line}\n" == BY_PETER


def test_the_text_ends_at_the_last_empty_line():
    found = Note.decode(POEM.encode())

    assert found.text.endswith("\n\ned è subito sera.\n")
    assert found.lines[0].name == "quasimodo.example/salvatore"
    assert found.lines[0].key_id.hex() == "367ba04b"
    assert found.encode() == POEM.encode()


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        f"{TEXT}\n".encode(),
        note(BY_PETER)[:-1],
        b"\x01" + note(BY_PETER),
        b"\xff" + note(BY_PETER),
        b"\r" + note(BY_PETER),
        note(BY_PETER.replace("PeterNeumann", "Bad Name")),
        note(BY_PETER.replace("PeterNeumann", "Bad\u2003Name")),
        note(BY_PETER.replace("PeterNeumann", "a+b")),
        note(BY_PETER.replace("— PeterNeumann", "— ")),
        note(BY_PETER.replace("—", "-")),
        note(BY_PETER, "Unexpected line.\n"),
        note(BY_PETER[:-3] + "N=\n"),  # bits beyond the last byte
        note(BY_PETER.replace("=", "")),
        note("— PeterNeumann x08gow==\n"),
        note(BY_PETER * (MAX_LINES + 1)),
        note(BY_PETER, text="x" * 1_000_000 + "\n"),
    ],
    ids=range(17),
)
def test_a_malformed_note_is_refused(data):
    with pytest.raises(InvalidInput):
        open_note(data, known(PETER))


def test_sixteen_lines_of_post_quantum_size_are_accepted():
    strangers = [str(Line(f"w{n}", bytes(4), bytes(4_900))) + "\n" for n in range(15)]

    assert len(open_note(note(*strangers, BY_PETER), known(PETER)).unknown) == 15


def test_a_note_that_no_known_key_signed_is_refused():
    with pytest.raises(InvalidInput, match="no known key"):
        open_note(note(BY_ENOCH), known(PETER))
    with pytest.raises(InvalidInput, match="no known key"):
        open_note(note(BY_PETER), [])


def test_a_bad_line_of_a_known_key_spoils_the_note_beside_a_good_one():
    bad = BY_PETER.replace("x08go/ZJ", "x08go/ZK")

    with pytest.raises(InvalidInput, match="does not verify"):
        open_note(note(BY_ENOCH, bad), known(PETER, ENOCH))


def test_a_line_that_shares_only_the_name_or_only_the_id_is_unknown():
    other_id = BY_PETER.replace("x08g", "xxxx")
    other_name = BY_PETER.replace("PeterNeumann", "CarmenSandiego")

    assert len(open_note(note(other_id, other_name, BY_PETER), known(PETER)).unknown) == 2


def test_two_keys_of_one_name_and_id_are_refused_only_when_they_matter():
    assert open_note(note(BY_PETER), known(ENOCH, PETER, ENOCH)).signed
    with pytest.raises(InvalidInput, match="two known keys"):
        open_note(note(BY_ENOCH), known(ENOCH, PETER, ENOCH))


def test_repeated_lines_count_once():
    opened = open_note(note(BY_PETER, BY_PETER, BY_ENOCH, BY_ENOCH), known(PETER))

    assert (len(opened.signed), len(opened.unknown)) == (1, 1)


def test_every_mangling_of_a_verifier_key_is_refused():
    for start in range(len(PETER)):
        for end in range(start + 1, len(PETER) + 1):
            if (start, end) != (0, len(PETER)):
                with pytest.raises(InvalidInput):
                    VerifierKey.parse(PETER[start:end])
    for place, character in enumerate(PETER):
        with pytest.raises(InvalidInput):
            VerifierKey.parse(PETER[:place] + chr(ord(character) + 1) + PETER[place + 1 :])


@pytest.mark.parametrize(
    "key",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "bananas.sigstore.dev+12344556",
        "rekor.sigstore.dev+12345678+THIS_IS_NOT_BASE64!",
        "rekor.sigstore.dev+12345678+AwEB",
    ],
)
def test_keys_of_wrong_length_or_unknown_type_are_refused(key):
    with pytest.raises(InvalidInput):
        VerifierKey.parse(key)


def test_keys_of_other_tools_read_back_exactly():
    remora = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

    assert str(VerifierKey.parse(remora)) == remora
    assert VerifierKey.parse(remora).type == COSIGNATURE
    assert str(VerifierKey.parse(PETER.replace("c74f20a3", "C74F20A3"))) == PETER


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\nb", "a\x01b"])
def test_names_with_spaces_or_plus_are_refused(name):
    with pytest.raises(InvalidInput):
        check_name(name)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\r", min_codepoint=32), max_size=40),
    st.lists(
        st.builds(
            Line,
            st.from_regex(r"[a-zé/.]{1,20}", fullmatch=True),
            st.binary(min_size=4, max_size=4),
            st.binary(min_size=1, max_size=80),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_what_is_written_reads_back(text, lines):
    written = Note(f"{text}\n\n{text}\n", tuple(lines))

    assert Note.decode(written.encode()) == written


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_a_note_or_invalid(data):
    with suppress(InvalidInput):
        assert Note.decode(data).encode() == data


def test_any_changed_byte_of_a_signed_note_fails():
    key, public = signer()
    data = Note("one\ntwo\n", (sign_line(public.name, key, "one\ntwo\n"),)).encode()
    verifiers = [NoteVerifier(public)]
    open_note(data, verifiers)

    for place in range(len(data)):
        for flip in (1, 0x80):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(InvalidInput):
                open_note(bytes(changed), verifiers)


def test_what_cannot_be_a_note_is_not_written():
    line = Note.decode(note(BY_PETER)).lines
    for wrong in (
        Note("abc", line),
        Note("a\tb\n", line),
        Note("a\n", ()),
        Note("a\ud800\n", line),
        Note("a\n", (Line("a b", bytes(4), b"x"),)),
    ):
        with pytest.raises(InvalidInput):
            wrong.encode()
