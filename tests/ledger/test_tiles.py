"""Tiles: the paths of the specification, and what they hold of a tree."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tiles import Tile, entry_bundle, read_entry_bundle, tiles_of


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/x001/x234/067", Tile(0, 1234067)),  # the specification's example
        ("tile/0/000", Tile(0, 0)),
        ("tile/63/999.p/1", Tile(63, 999, 1)),
        ("tile/1/x001/000.p/255", Tile(1, 1000, 255)),
        ("tile/entries/x123/x456/789.p/17", Tile(None, 123456789, 17)),
    ],
)
def test_a_path_names_its_tile(path, tile):
    assert Tile.parse(path) == tile
    assert tile.path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/x001/x002",
        "tile/0/001/002",
        "tile/64/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/entries/000.p/999",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/%30%30%30",
        "tile/0/٠٠٠",
        "tile/data/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/000\n",
    ],
)
def test_what_is_not_in_the_one_form_is_refused(path):
    with pytest.raises(InvalidInput):
        Tile.parse(path)


@given(st.none() | st.integers(0, 63), st.integers(0, 2**54), st.integers(1, 256))
def test_every_tile_reads_back(level, index, width):
    tile = Tile(level, index, width)

    assert Tile.parse(tile.path) == tile


@given(st.text("tile/entries0123456789x.p", max_size=40).map("tile/".__add__))
def test_any_path_is_a_tile_in_one_form_or_invalid(path):
    with suppress(InvalidInput):
        assert Tile.parse(path).path == path


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification():
    edge = tiles_of(70_000)

    assert edge == [Tile(None, 273, 112), Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert all(tile.fits(70_000) for tile in edge)
    assert Tile(0, 272).fits(70_000)
    assert not Tile(0, 273).fits(70_000)
    assert Tile(1, 0).fits(70_000)
    assert not Tile(1, 1, 18).fits(70_000)


def test_a_tree_of_256_has_a_full_tile_and_one_of_width_one_above():
    assert tiles_of(256) == [Tile(1, 0, 1)]
    assert Tile(0, 0).fits(256)
    assert tiles_of(0) == []
    assert not Tile(0, 0, 1).fits(0)


@given(st.lists(st.binary(max_size=70), max_size=8))
def test_entries_read_back(entries):
    data = entry_bundle(entries)

    assert read_entry_bundle(data, len(entries)) == entries
    for wrong in (data + b"\0", data[:-1] if data else b"x"):
        with pytest.raises(InvalidInput):
            read_entry_bundle(wrong, len(entries))


def test_an_entry_is_behind_its_length_in_two_bytes():
    assert entry_bundle([b"abc", b"", b"x" * 300]) == b"\0\3abc\0\0\1\x2c" + b"x" * 300
    with pytest.raises(InvalidInput):
        read_entry_bundle(b"\0\0", 2)
