"""Canonical JSON against RFC 8785's own examples, and strict reading against RFC 7493's rules."""

import json
import struct
from contextlib import suppress

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput

# RFC 8785, appendix B: IEEE 754 bits and their form.
APPENDIX_B = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}

# RFC 8785, section 3.2.3: keys in the order of their UTF-16 units.
SORTED_KEYS = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"]))
)


def nested(leaves):
    keys = st.text(st.characters(exclude_categories=["Cs"]))
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20
    )


@pytest.mark.parametrize(("bits", "expected"), APPENDIX_B.items())
def test_numbers_of_appendix_b(bits, expected):
    number = struct.unpack(">d", bytes.fromhex(bits))[0]

    assert canonical.dumps(number) == expected.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_what_is_no_number_has_no_form(bits):
    with pytest.raises(InvalidInput):
        canonical.dumps([struct.unpack(">d", bytes.fromhex(bits))[0]])


def test_the_example_of_section_3_2_2():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }

    assert canonical.dumps(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16_units():
    value = dict.fromkeys(reversed(SORTED_KEYS), 1)

    assert list(json.loads(canonical.dumps(value))) == SORTED_KEYS


def test_keys_are_sorted_by_unit_also_beside_floats_and_deep_inside():
    value = {"deep": [{"\ufb33": 0.5, "\U0001f600": {"\ufb33": 1, "\U0001f600": 2}}]}

    assert canonical.dumps(value) == (
        '{"deep":[{"\U0001f600":{"\U0001f600":2,"\ufb33":1},"\ufb33":0.5}]}'.encode()
    )


def test_all_control_characters_are_written_as_the_rfc_says():
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
    expected = "".join(short.get(code, f"\\u{code:04x}") for code in range(32))

    assert canonical.dumps("".join(map(chr, range(32)))) == f'"{expected}"'.encode()


def test_delete_and_separators_are_written_as_they_are():
    assert canonical.dumps("\x7f\u2028\u2029/<") == '"\x7f\u2028\u2029/<"'.encode()


@given(nested(scalars))
def test_the_fast_way_equals_the_library(value):
    assert canonical.dumps(value) == rfc8785.dumps(value)


@given(nested(scalars | st.floats(allow_nan=False, allow_infinity=False)))
def test_values_with_floats_equal_the_library(value):
    assert canonical.dumps(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {None: 1},
        {True: 1},
        {1, 2},
        b"x",
        object(),
    ],
)
def test_what_has_no_form_is_refused(value):
    with pytest.raises(InvalidInput):
        canonical.dumps(value)


def test_a_value_that_holds_itself_is_refused():
    loop = []
    loop.append(loop)

    with pytest.raises(InvalidInput):
        canonical.dumps(loop)


@given(nested(st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()))
def test_what_was_written_is_read_back_unless_it_holds_what_i_json_forbids(value):
    data = json.dumps(value, ensure_ascii=True).encode()
    forbidden = any(
        0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE or 0xD800 <= code <= 0xDFFF
        for code in map(ord, json.dumps(value, ensure_ascii=False))
    )
    if forbidden:
        with pytest.raises(InvalidInput, match="noncharacter"):
            canonical.loads(data, max_bytes=1 << 20, max_depth=64)
    else:
        assert canonical.loads(data, max_bytes=1 << 20, max_depth=64) == value
        assert canonical.loads(canonical.dumps(value), max_bytes=1 << 20, max_depth=64) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '[{"b":{"x":1,"x":2}}]',
        "null",
        '{"a":null}',
        "[1.0]",
        "[1e3]",
        "[1E3]",
        "[-0]",
        "[-0.0]",
        "[9007199254740992]",
        "[-9007199254740992]",
        "[1" + "0" * 5000 + "]",
        "[NaN]",
        "[Infinity]",
        "[-Infinity]",
        '["\\ud800"]',
        '["\\udc00\\ud800"]',
        '{"\\ud800":1}',
        '["\\uffff"]',
        '["\ufdd0"]',
        '["\U0001fffe"]',
        '["\x01"]',
        '["\t"]',
        "\ufeff[]",
        "[1,]",
        "[01]",
        "[+1]",
        '{"a":1}x',
        "",
        " ",
        "'a'",
        '["\\x41"]',
        "[" * 33 + "]" * 33,
        '{"a":' * 33 + "1" + "}" * 33,
        "[" * 100_000,
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(text):
    with pytest.raises(InvalidInput):
        canonical.loads(text.encode("utf-8", "surrogatepass"), max_bytes=1 << 20)


@pytest.mark.parametrize(
    "data", [b'["\xff"]', b'["\xed\xa0\x80"]', b'["\xc0\xaf"]', b"\xff\xfe[\x00]\x00"]
)
def test_what_is_not_utf_8_is_refused(data):
    with pytest.raises(InvalidInput):
        canonical.loads(data, max_bytes=100)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[9007199254740991,-9007199254740991,0]", [2**53 - 1, -(2**53) + 1, 0]),
        ('["null","nullable"]', ["null", "nullable"]),
        ('["\\ud83d\\ude00","\\u00e9"]', ["\U0001f600", "é"]),
        ("[" * 32 + "]" * 32, None),
        ('["' + "[" * 100 + '"]', ["[" * 100]),
        (
            "[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
            "[],[],[],[],[]]",
            [[]] * 34,
        ),
    ],
)
def test_what_is_strict_is_read(text, value):
    read = canonical.loads(text.encode(), max_bytes=1000)

    assert value is None or read == value


def test_too_many_bytes_are_refused_before_they_are_parsed():
    with pytest.raises(InvalidInput, match="too long"):
        canonical.loads(b"[" * 101, max_bytes=100)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_invalid_input(data):
    with suppress(InvalidInput):
        canonical.loads(data, max_bytes=200)


def test_sha256_is_written_in_hex():
    assert canonical.sha256_hex(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


nested = st.recursive(
    st.integers(0, 9) | st.text('[]{}"\\a,:', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('[]{}"a', max_size=2), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth(value):
    """How many objects and lists stand around the innermost, itself counted."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(nested, st.integers(0, 6))
def test_nesting_is_counted_whatever_brackets_stand_in_strings(value, limit):
    data = canonical.dumps(value)
    if depth(value) <= limit:
        assert canonical.loads(data, max_depth=limit) == value
    else:
        with pytest.raises(InvalidInput, match="nested too deeply"):
            canonical.loads(data, max_depth=limit)


@pytest.mark.parametrize(
    "deep", [b'[["]",["]",["[","["]]]]', b'{"a":[{"a":[{"a":[]}]}]}', rb'[["\"]",["]"]]]']
)
def test_brackets_in_strings_hide_no_nesting(deep):
    real = depth(json.loads(deep))

    assert canonical.loads(deep, max_depth=real) == json.loads(deep)
    with pytest.raises(InvalidInput):
        canonical.loads(deep, max_depth=real - 1)
