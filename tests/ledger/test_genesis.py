"""A genesis defines one consortium in one way, or is refused."""

import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import canonical
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import (
    KEY_NAMES,
    Genesis,
    byzantine_quorum,
    crash_quorum,
    member_file,
    parse_member_file,
    quorum_columns,
)
from tilth_ledger.keys import LOW_ORDER, SigningKey

# The design's table of quorums: n: (crash q, safe, absent), (byzantine q, safe, absent)
TABLE = {
    1: ((1, 0, 0), (1, 0, 0)),
    2: ((2, 1, 0), (2, 1, 0)),
    3: ((2, 0, 1), (3, 2, 0)),
    4: ((3, 1, 1), (3, 1, 1)),
    5: ((3, 0, 2), (4, 2, 1)),
    6: ((4, 1, 2), (5, 3, 1)),
    7: ((4, 0, 3), (5, 2, 2)),
    9: ((5, 0, 4), (7, 4, 2)),
    10: ((6, 1, 4), (7, 3, 3)),
    30: ((16, 1, 14), (21, 11, 9)),
}


def parsed(value):
    return Genesis.parse(canonical.dumps(value))


@pytest.fixture
def value(consortium):
    """The JSON of a good genesis, to be spoiled."""
    return json.loads(consortium.genesis.bytes)


@pytest.mark.parametrize(("n", "columns"), TABLE.items())
def test_quorums_are_those_of_the_table(n, columns):
    found = tuple((c.q, c.safe_from, c.may_be_absent) for c in quorum_columns(n))

    assert found == columns
    assert [c.column for c in quorum_columns(n)] == ["crash", "byzantine"]


def test_q_defaults_to_the_crash_column_and_k_to_the_byzantine_one(consortium_of):
    for n in (1, 2, 3, 4, 7):
        genesis = consortium_of(n).genesis
        assert (genesis.q, genesis.k) == (crash_quorum(n), byzantine_quorum(n))


def test_a_genesis_reads_back(consortium):
    genesis = consortium.genesis

    assert Genesis.parse(genesis.bytes) == genesis
    assert genesis.net == hashlib.sha256(genesis.bytes).hexdigest()
    assert genesis.net_bytes.hex() == genesis.net
    assert [member.organization for member in genesis.members] == ["org-1", "org-2", "org-3"]
    assert Epoch.first(genesis).voters == tuple(keys["vote"].public for keys in consortium.keys)
    assert all(member.votes for member in genesis.members)


def test_leaders_rotate(consortium):
    assert [consortium.epoch.leader(view) for view in (1, 2, 3, 4)] == [1, 2, 0, 1]


def test_members_have_a_place_and_others_have_none(consortium_of, new_party):
    genesis = consortium_of(2, organizations=[new_party(9)]).genesis

    epoch = Epoch.first(genesis)
    assert [epoch.member_index(f"org-{n}") for n in (1, 2, 9, 5)] == [0, 1, None, None]
    assert [party.organization for party in genesis.everyone()] == ["org-1", "org-2", "org-9"]
    assert not genesis.organizations[0].votes


@pytest.mark.parametrize("q", [0, 1, 4])
def test_a_q_that_makes_no_quorum_is_refused(consortium_of, q):
    with pytest.raises(InvalidInput):
        consortium_of(3, q=q)


def test_half_of_an_even_consortium_is_no_quorum(consortium_of):
    with pytest.raises(InvalidInput, match="quorum"):
        consortium_of(4, q=2)
    assert consortium_of(4, q=4).genesis.q == 4


@pytest.mark.parametrize("k", [1, 4])
def test_k_lies_between_q_and_n(consortium_of, k):
    with pytest.raises(InvalidInput, match="k is wrong"):
        consortium_of(3, k=k)


def test_unknown_fields_are_refused_at_every_level(value):
    for spoil in (
        lambda v: v.update(extra=1),
        lambda v: v["members"][0].update(extra=1),
        lambda v: v["members"][0]["keys"].update(extra="00" * 32),
    ):
        spoiled = json.loads(json.dumps(value))
        spoil(spoiled)
        with pytest.raises(InvalidInput, match="unknown fields"):
            parsed(spoiled)


def test_every_field_is_needed(value):
    for name in value:
        with pytest.raises(InvalidInput, match="lacks fields"):
            parsed({key: field for key, field in value.items() if key != name})
    for name in value["members"][0]:
        member = {key: field for key, field in value["members"][0].items() if key != name}
        with pytest.raises(InvalidInput, match="lacks fields"):
            parsed(value | {"members": [member, *value["members"][1:]]})


def test_no_organization_is_listed_twice(value):
    value["members"][1]["organization"] = "org-1"

    with pytest.raises(InvalidInput, match="twice"):
        parsed(value)


def test_no_organization_is_both_member_and_not(value):
    value["organizations"] = [value["members"][2] | {"votes": False}]

    with pytest.raises(InvalidInput, match="twice"):
        parsed(value)


@pytest.mark.parametrize("name", KEY_NAMES)
def test_no_key_is_listed_twice(value, name):
    value["members"][1]["keys"][name] = value["members"][0]["keys"]["vote"]

    with pytest.raises(InvalidInput, match="twice"):
        parsed(value)


def test_a_member_with_one_key_for_two_purposes_is_refused(value):
    value["members"][0]["keys"]["log"] = value["members"][0]["keys"]["vote"]

    with pytest.raises(InvalidInput, match="twice"):
        parsed(value)


def test_a_low_order_key_is_refused(value):
    value["members"][0]["keys"]["vote"] = min(LOW_ORDER).hex()

    with pytest.raises(InvalidInput, match="low-order"):
        parsed(value)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("format", "tilth-genesis-2"),
        ("rules_version", 2),
        ("rules_version", True),
        ("name", ""),
        ("name", "two words"),
        ("name", "a+b"),
        ("name", "a" * 65),
        ("members", []),
        ("members", {}),
        ("organizations", None),
        ("q", "2"),
        ("q", True),
        ("limits", []),
        ("limits", {"leaf_bytes": "many"}),
        ("limits", {"leaf_bytes": -1}),
        ("limits", {"Leaf Bytes": 1}),
        ("delta_ms", 0),
        ("delta_ms", 600_001),
        ("publication", "secret"),
        ("publication", ["public"]),
    ],
)
def test_wrong_values_are_refused(value, name, wrong):
    with pytest.raises(InvalidInput):
        parsed(value | {name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("organization", "Org 1"),
        ("organization", "-org"),
        ("organization", "org/1"),
        ("organization", "x" * 64),
        ("name", ""),
        ("name", "x" * 101),
        ("name", "line\nbreak"),
        ("votes", False),
        ("votes", 1),
        ("aggregates", "yes"),
        ("keys", {}),
        ("tls_authority", "not PEM"),
        ("peer_address", ""),
        ("peer_address", "two words"),
        ("client_address", 5),
    ],
)
def test_wrong_values_of_a_member_are_refused(value, name, wrong):
    value["members"][0][name] = wrong

    with pytest.raises(InvalidInput):
        parsed(value)


def test_a_duplicate_key_in_the_file_is_refused(consortium):
    data = consortium.genesis.bytes

    with pytest.raises(InvalidInput, match="duplicate"):
        Genesis.parse(data[:-1] + b',"q":2}')


@given(st.data())
def test_mutated_bytes_raise_nothing_but_invalid_input(consortium, data):
    changed = bytearray(consortium.genesis.bytes)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255))
    with suppress(InvalidInput):
        assert Genesis.parse(bytes(changed)).net == hashlib.sha256(changed).hexdigest()


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=5,
    )
)
def test_random_json_raises_nothing_but_invalid_input(value):
    for parse in (Genesis.parse, parse_member_file):
        with pytest.raises(InvalidInput):
            parse(json.dumps(value).encode())


PEM = "-----BEGIN CERTIFICATE-----\n" + "A" * 64 + "\n-----END CERTIFICATE-----\n"


def site():
    root = SigningKey.from_seed(bytes([99]) * 32)
    return {name: root.derive(name) for name in KEY_NAMES}


def test_a_member_file_reads_back():
    data = member_file("org", "Org", site(), PEM, aggregates=True, peer_address="host:1")
    member = parse_member_file(data)

    assert (member.organization, member.name, member.aggregates) == ("org", "Org", True)
    assert (member.peer_address, member.client_address) == ("host:1", None)
    assert member.keys.vote == site()["vote"].public


@pytest.mark.parametrize("name", KEY_NAMES)
def test_a_member_file_with_a_key_that_its_sender_does_not_hold_is_refused(name):
    value = json.loads(member_file("org", "Org", site(), PEM))
    value["member"]["keys"][name] = SigningKey.from_seed(bytes([5]) * 32).public.hex

    with pytest.raises(InvalidInput, match="signature"):
        parse_member_file(canonical.dumps(value))


@pytest.mark.parametrize(
    ("name", "other"), [("name", "Other"), ("organization", "other"), ("aggregates", True)]
)
def test_a_changed_member_file_is_refused(name, other):
    value = json.loads(member_file("org", "Org", site(), PEM))
    value["member"][name] = other

    with pytest.raises(InvalidInput, match="signature"):
        parse_member_file(canonical.dumps(value))


def test_a_member_file_with_one_key_for_all_is_refused():
    keys = dict.fromkeys(KEY_NAMES, SigningKey.from_seed(bytes([99]) * 32))

    with pytest.raises(InvalidInput, match="twice"):
        member_file("org", "Org", keys, PEM)


def test_a_member_file_does_not_say_whether_it_votes():
    value = json.loads(member_file("org", "Org", site(), PEM))
    value["member"]["votes"] = True

    with pytest.raises(InvalidInput, match="unknown fields"):
        parse_member_file(canonical.dumps(value))
