"""Keys and signatures with a part of small order: where verifiers differ that multiply by eight.

A point that is a multiple of the base point plus one of order eight is no low-order point, so
nothing refuses it beforehand. Ledger (libsodium) and verifier (OpenSSL) must say the same of it.
"""

from __future__ import annotations

import hashlib

import pytest

from tilth import verifier
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import PublicKey

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]


def added(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def times(factor: int, point: Point) -> Point:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = added(result, point)
        point, factor = added(point, point), factor >> 1
    return result


def decoded(data: bytes) -> Point:
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x if x & 1 == sign else P - x), y


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = decoded(bytes.fromhex("58" + "66" * 31))
OF_ORDER_EIGHT = decoded(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
)
SECRET = 0x5EC2E7 * 2**200 % ORDER


def hashed(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER


def signature(message: bytes, *, mixed_key: bool, mixed_r: bool) -> tuple[bytes, bytes, int]:
    """(key, signature, hash) by RFC 8032, but for what is added to key and R."""
    nonce = hashed(b"nonce", message)
    key, r = times(SECRET, BASE), times(nonce, BASE)
    key = encoded(added(key, OF_ORDER_EIGHT) if mixed_key else key)
    r_bytes = encoded(added(r, OF_ORDER_EIGHT) if mixed_r else r)
    challenge = hashed(r_bytes, key, message)
    s = (nonce + challenge * SECRET) % ORDER
    return key, r_bytes + s.to_bytes(32, "little"), challenge


def ledger_takes(key: bytes, signed: bytes, message: bytes) -> bool:
    try:
        PublicKey(key).verify(signed, message)
    except InvalidInput:
        return False
    return True


def verifier_takes(key: bytes, signed: bytes, message: bytes) -> bool:
    try:
        verifier._check_signature("signature", key, signed, message)
    except verifier._Refusal:
        return False
    return True


@pytest.mark.parametrize("mixed_key", [False, True])
@pytest.mark.parametrize("mixed_r", [False, True])
def test_nothing_is_multiplied_by_eight(mixed_key: bool, mixed_r: bool) -> None:
    verdicts = set()
    for number in range(12):
        message = b"message %d" % number
        key, signed, challenge = signature(message, mixed_key=mixed_key, mixed_r=mixed_r)
        # sB = R + hA, exactly: what is of order eight must cancel by itself.
        holds = (mixed_r + challenge * mixed_key) % 8 == 0
        assert ledger_takes(key, signed, message) is holds
        assert verifier_takes(key, signed, message) is holds
        verdicts.add(holds)
    assert (False in verdicts) is (mixed_key or mixed_r)
