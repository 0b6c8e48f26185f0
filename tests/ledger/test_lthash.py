"""The state digest depends on the set of rows and on nothing else."""

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import lthash
from tilth_ledger.errors import InvalidInput
from tilth_ledger.lthash import LANES, STATE_BYTES, LtHash

tables = st.dictionaries(st.text(max_size=8), st.binary(max_size=8), max_size=8)


def sum_of(rows):
    total = LtHash()
    for key, value in rows:
        total = total.add(key, value)
    return total


def lane_by_lane(rows):
    """The definition, without tricks, by another library."""
    lanes = [0] * LANES
    for key, value in rows:
        name = key.encode()
        row = b"tilth/row/1\0" + len(name).to_bytes(4) + name + value
        expanded = keystream(hashlib.sha256(row).digest(), b"LibsodiumDRG", STATE_BYTES)
        for i in range(LANES):
            lanes[i] = (lanes[i] + int.from_bytes(expanded[2 * i : 2 * i + 2], "little")) % 2**16
    return b"".join(lane.to_bytes(2, "little") for lane in lanes)


def keystream(key, nonce, length):
    """ChaCha20 of RFC 8439 from block 0 on; OpenSSL takes the counter in front of the nonce."""
    cipher = Cipher(algorithms.ChaCha20(key, bytes(4) + nonce), None)
    return cipher.encryptor().update(bytes(length))


def test_it_is_the_lane_wise_sum():
    rows = [(f"row/{i}", b"value %d" % i) for i in range(50)]

    assert sum_of(rows).state == lane_by_lane(rows)


def test_rows_that_are_summed_in_turns_are_all_counted(monkeypatch):
    rows = [(f"row/{i}", b"value %d" % i) for i in range(50)]
    monkeypatch.setattr(lthash, "ROWS_AT_ONCE", 4)

    assert LtHash().replace((), rows).state == lane_by_lane(rows)
    assert LtHash().replace((), rows).replace(rows[:30], ()).state == lane_by_lane(rows[30:])


def test_rows_are_expanded_by_the_stream_cipher_of_rfc_8439():
    # Its appendix A.1, test vectors 1 and 2: key and nonce of zeros, blocks 0 and 1.
    expected = (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )

    assert keystream(bytes(32), bytes(12), 128).hex() == expected


def test_the_empty_sum_and_two_rows_are_pinned():
    two = sum_of([("sample/a", b"{}"), ("tag/b", b'{"label":"train"}')])

    assert LtHash().digest().hex() == hashlib.sha256(b"tilth/state/1\0" + bytes(2048)).hexdigest()
    assert two.digest().hex() == "c2d6b2338d189d1e1518839ff2a80307e6c600a76398d5fd6934b16599293a37"


@given(tables, st.randoms(use_true_random=False))
def test_order_does_not_matter(table, random):
    shuffled = list(table.items())
    random.shuffle(shuffled)

    assert sum_of(shuffled) == sum_of(table.items())


@given(tables, tables)
def test_removing_undoes_adding(table, other):
    total = sum_of(table.items())
    there = sum_of([*table.items(), *other.items()])
    for key, value in other.items():
        there = there.remove(key, value)

    assert there.digest() == total.digest()


@given(tables, tables)
def test_different_rows_have_different_digests(table, other):
    assert (sum_of(table.items()).digest() == sum_of(other.items()).digest()) == (table == other)


def test_key_and_value_do_not_run_into_each_other():
    assert sum_of([("ab", b"c")]) != sum_of([("a", b"bc")])


def test_it_goes_on_from_its_stored_state():
    total = sum_of([("a", b"1"), ("b", b"2")])

    assert LtHash.from_state(total.state) == total


def test_a_state_of_another_length_is_refused():
    with pytest.raises(InvalidInput):
        LtHash.from_state(bytes(STATE_BYTES - 1))
