"""Signatures against RFC 8032's vectors, and the encodings on which libraries disagree."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import LOW_ORDER, BadSignature, PublicKey, SigningKey, unhex

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rfc8032.json").read_text())

# The eight points of order 1, 2, 4 and 8 in every encoding of 32 bytes, canonical or not.
FOURTEEN = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
KEY = SigningKey.from_seed(bytes(range(32)))


def small_order_encodings():
    """Computed from the curve: encodings whose point, times eight, is the neutral element."""
    d = -121665 * pow(121666, -1, P) % P
    root = pow(2, (P - 1) // 4, P)

    def x_of(y):
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        candidates = [c for c in (x, x * root % P) if c * c % P == square]
        return candidates[0] if candidates else None

    def add(a, b):
        (x1, y1), (x2, y2) = a, b
        t = d * x1 * x2 * y1 * y2 % P
        x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
        return x, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P

    def is_small(y):
        x = x_of(y % P)
        if x is None:
            return False
        point = (x, y % P)
        for _ in range(3):
            point = add(point, point)
        return point == (0, 1)

    halves = {int.from_bytes(bytes.fromhex(text), "little") % 2**255 for text in FOURTEEN}
    small = {y for y in halves | set(range(P, 2**255)) if is_small(y)}
    return {(y | sign << 255).to_bytes(32, "little") for y in small for sign in (0, 1)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_of_rfc_8032(vector):
    seed, public, message, signature = (
        bytes.fromhex(vector[name]) for name in ("seed", "public", "message", "signature")
    )
    key = SigningKey.from_seed(seed)

    assert key.public.raw == public
    assert key.sign(message) == signature
    PublicKey(public).verify(signature, message)


def test_the_fourteen_low_order_encodings_are_pinned():
    assert {encoding.hex() for encoding in LOW_ORDER} == set(FOURTEEN)
    assert len(LOW_ORDER) == 14
    assert small_order_encodings() == LOW_ORDER


@pytest.mark.parametrize("encoding", FOURTEEN)
def test_a_low_order_point_is_no_public_key(encoding):
    with pytest.raises(InvalidInput, match="low-order"):
        PublicKey.from_hex(encoding)


@pytest.mark.parametrize("encoding", FOURTEEN)
def test_a_low_order_r_is_no_signature(encoding):
    with pytest.raises(BadSignature, match="low-order"):
        KEY.public.verify(bytes.fromhex(encoding) + bytes(32), b"message")


def test_a_signature_with_s_beyond_the_group_order_is_refused():
    signature = KEY.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + ORDER
    malleable = signature[:32] + s.to_bytes(32, "little")

    with pytest.raises(BadSignature):
        KEY.public.verify(malleable, b"message")


def opinions(public, signature, message):
    """Whether we take a signature, and whether the other library does."""
    ours = theirs = True
    try:
        PublicKey(public).verify(signature, message)
    except InvalidInput:
        ours = False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        theirs = False
    return ours, theirs


@given(st.binary(max_size=64), st.lists(st.integers(0, 767), max_size=2))
def test_openssl_takes_the_same_signatures_as_we_do(message, flipped):
    parts = bytearray(KEY.public.raw + KEY.sign(message))
    for bit in flipped:
        parts[bit // 8] ^= 1 << bit % 8

    ours, theirs = opinions(bytes(parts[:32]), bytes(parts[32:]), message)

    assert ours == theirs


@given(st.binary(max_size=64), st.integers(0, 511))
def test_a_signature_with_one_changed_bit_is_refused(message, bit):
    signature = bytearray(KEY.sign(message))
    signature[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BadSignature):
        KEY.public.verify(bytes(signature), message)


def test_a_signature_is_of_its_message_and_key_only():
    signature = KEY.sign(b"message")

    with pytest.raises(BadSignature):
        KEY.public.verify(signature, b"massage")
    with pytest.raises(BadSignature):
        KEY.derive("vote").public.verify(signature, b"message")


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_random_keys_and_signatures_raise_nothing_but_invalid_input(signature, raw):
    with pytest.raises(InvalidInput):
        PublicKey(raw).verify(signature, b"message")


def test_derived_keys_differ_by_label_and_are_the_same_again():
    assert KEY.derive("vote").public != KEY.derive("cosign").public
    assert KEY.derive("vote").public == SigningKey.from_seed(bytes(range(32))).derive("vote").public
    assert KEY.derive("vote").public != KEY.public


def test_a_key_id_is_the_digest_of_a_tag_and_the_key():
    vector = PublicKey.from_hex(VECTORS[0]["public"])

    assert vector.key_id == "6ae144981fb198cbaa3e904af0f4b18a9ace4b86d71bfec9bc8e5f4428617275"


def test_a_signing_key_does_not_show_its_seed():
    assert bytes(range(32)).hex() not in repr(KEY)
    assert repr(bytes(range(32)))[2:20] not in repr(KEY)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_has_32_bytes(length):
    with pytest.raises(InvalidInput):
        PublicKey(bytes([7]) * length)
    with pytest.raises(InvalidInput):
        SigningKey.from_seed(bytes(length))


@pytest.mark.parametrize("text", ["AB", "0x", "a", "abc", "", "g0", " ab", 12, None, ["ab"], "١٢"])
def test_hex_is_lower_case_and_of_the_right_length(text):
    with pytest.raises(InvalidInput):
        unhex(text, 1, "thing")


def test_hex_is_read():
    assert unhex("ab01", 2, "thing") == b"\xab\x01"
