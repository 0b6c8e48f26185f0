"""Proof files of one entry: the specification's form, written and read."""

import hashlib
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.proofs import TlogProof

ONE, TWO = (hashlib.sha256(word).digest() for word in (b"hash1", b"hash2"))


@pytest.mark.parametrize(
    ("proof", "head"),
    [
        (
            TlogProof(5, (ONE, TWO), b"test checkpoint\n"),
            f"index 5\n{b64encode(ONE).decode()}\n{b64encode(TWO).decode()}",
        ),
        (
            TlogProof(10, (ONE,), b"test checkpoint\n", b"extra information"),
            f"extra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n{b64encode(ONE).decode()}",
        ),
        (TlogProof(0, (), b"test checkpoint\n"), "index 0"),
        (TlogProof(0, (), b"test checkpoint\n", b""), "extra \nindex 0"),
    ],
)
def test_a_proof_has_the_form_of_the_specification(proof, head):
    data = proof.encode()

    assert data.decode() == f"c2sp.org/tlog-proof@v1\n{head}\n\ntest checkpoint\n"
    assert TlogProof.decode(data) == proof


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wrong\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra !!\nindex 0\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nextra YQ==\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex x\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 05\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 18446744073709551616\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n!!\n\ncheckpoint\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{b64encode(bytes(64)).decode()}\n\ncheckpoint\n",
        f"c2sp.org/tlog-proof@v1\nindex 0\n{f'{b64encode(ONE).decode()}x' * 65}\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n"
        + f"{b64encode(ONE).decode()}\n" * 65
        + "\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n\n",
        "c2sp.org/tlog-proof@v1\nindex ٣\n\ncheckpoint\n",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + "a" * 4_000_000,
    ],
    ids=range(17),
)
def test_a_malformed_proof_is_refused(text):
    with pytest.raises(InvalidInput):
        TlogProof.decode(text.encode())


@given(
    st.builds(
        TlogProof,
        st.integers(0, 2**64 - 1),
        st.lists(st.binary(min_size=32, max_size=32), max_size=64).map(tuple),
        st.binary(min_size=1, max_size=50),
        st.none() | st.binary(max_size=50),
    )
)
def test_what_is_written_reads_back(proof):
    assert TlogProof.decode(proof.encode()) == proof


@given(st.binary(max_size=120).map(b"c2sp.org/tlog-proof@v1\nindex 1\n".__add__))
def test_any_bytes_are_a_proof_or_invalid(data):
    with suppress(InvalidInput):
        assert TlogProof.decode(data).encode() == data
