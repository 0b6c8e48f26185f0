"""Archives: one byte form for each content, and no way out of the folder."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.archive import ArchiveBounds, ArchiveFile, read, write
from tilth_ledger.canonical import sha256_hex
from tilth_ledger.errors import InvalidInput

FILES = [
    ArchiveFile("tilth.toml", False, b'format = "tilth-1"\n'),
    ArchiveFile("a/run", True, b"#!/bin/sh\n"),
    ArchiveFile("a/" + "n" * 95 + "/" + "m" * 90, False, b""),
]
NAMES = st.text(
    st.characters(min_codepoint=97, max_codepoint=250, exclude_characters="\x7f"),
    min_size=1,
    max_size=8,
)
ANY_FILES = st.dictionaries(NAMES, st.tuples(st.booleans(), st.binary(max_size=1_200)), max_size=6)


def crafted(**attributes):
    """A tar made by others, with one entry of these attributes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        data = attributes.pop("data", b"")
        for name, value in attributes.items():
            setattr(info, name, value)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()[: 1024 + 1024 + (-len(data) % 512) + len(data) - 512 * (not data)]


def test_files_come_back_as_they_were():
    assert sorted(read(write(FILES))) == sorted(FILES)


@given(ANY_FILES)
def test_every_content_has_one_form(content):
    files = [ArchiveFile(name, mode, data) for name, (mode, data) in content.items()]

    data = write(files)

    assert write(reversed(read(data))) == data


def test_the_form_is_pinned():
    assert sha256_hex(write(FILES)) == (
        "8076f0bbedec6a53dd82b4d8ac8ef9c76950bacd24148f11957cf6ae3d529ba7"
    )


def test_other_programs_can_read_it():
    with tarfile.open(fileobj=io.BytesIO(write(FILES))) as tar:
        assert tar.getnames() == sorted(file.path for file in FILES)
        assert {member.mtime for member in tar} == {0}


@pytest.mark.parametrize("path", ["../escape", "a/../../escape", "/etc/cron.d/x", "a/./b", "a//b"])
def test_a_path_that_climbs_out_is_refused(path):
    with pytest.raises(InvalidInput, match="leaves its folder"):
        read(crafted(name=path))
    with pytest.raises(InvalidInput):
        write([ArchiveFile(path, False, b"")])


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.DIRTYPE, "folder"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"x", "type"),
    ],
)
def test_anything_but_a_regular_file_is_refused(kind, word):
    with pytest.raises(InvalidInput, match=word):
        read(crafted(type=kind, linkname="/etc/passwd"))


def test_a_plain_file_of_another_program_is_refused_only_for_its_form():
    with pytest.raises(InvalidInput, match="one form"):
        read(crafted(name="file", mtime=99))


def test_a_bomb_of_compressed_zeros_is_refused_unread():
    bomb = gzip.compress(bytes(100 << 20))

    with pytest.raises(InvalidInput, match="no archive"):
        read(bomb)


def test_a_file_that_claims_ten_gigabytes_is_refused():
    """ustar's eleven octal digits say at most 8 GiB - 1; base 256 is how tar says more."""
    for size in (b"%011o\0" % ((8 << 30) - 1), b"\x80" + (10 * 10**9).to_bytes(11)):
        head = bytearray(write([ArchiveFile("zeros", False, b"")]))
        head[124:136] = size

        with pytest.raises(InvalidInput, match=r"larger|not octal"):
            read(bytes(head))


def test_too_many_bytes_are_refused():
    data = write([ArchiveFile(str(n), False, bytes(600)) for n in range(3)])

    with pytest.raises(InvalidInput, match="larger"):
        read(data, ArchiveBounds(total_bytes=1_500))


def test_too_many_files_are_refused():
    data = write([ArchiveFile(str(n), False, b"") for n in range(4)])

    with pytest.raises(InvalidInput, match="too many"):
        read(data, ArchiveBounds(files=3))
    assert len(read(data, ArchiveBounds(files=4))) == 4


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_a_name_used_twice_is_refused(paths):
    with pytest.raises(InvalidInput, match="twice"):
        write([ArchiveFile(path, False, b"") for path in paths])


def test_a_duplicate_made_by_hand_is_refused():
    one = write([ArchiveFile("a", False, b"x")])[:-1024]

    with pytest.raises(InvalidInput, match="twice"):
        read(one + one + bytes(1024))


@pytest.mark.parametrize("cut", [0, 100, 512, 1_024, -1, -512])
def test_a_cut_archive_is_refused(cut):
    data = write(FILES)

    with pytest.raises(InvalidInput):
        read(data[:cut])


@given(st.binary(max_size=2_048))
def test_any_bytes_are_an_archive_or_refused(data):
    try:
        files = read(data)
    except InvalidInput:
        return
    assert write(files) == data


@given(st.integers(0, 511), st.integers(0, 255))
def test_every_changed_byte_of_a_header_is_refused_or_changes_the_content(position, value):
    data = bytearray(write(FILES))
    if data[position] == value:
        return
    data[position] = value
    try:
        files = read(bytes(data))
    except InvalidInput:
        return
    assert sorted(files) != sorted(FILES)
