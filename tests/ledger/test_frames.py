"""Frames across the pipe of an isolation: what is written is read, and nothing else is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import frames
from tilth_ledger.errors import InvalidInput
from tilth_ledger.frames import Bounds, FileChunk, FileStart, Message, Reader


def a_bundle():
    return (
        frames.file_head("out/model/model.h5", 5)
        + b"bytes"
        + frames.file_head("empty", 0, executable=True)
        + frames.message("ended", {"status": 0})
    )


def content(events):
    """Files as {path: bytes}, and the messages."""
    files, path = {}, None
    for event in events:
        if isinstance(event, FileStart):
            path = event.path
            files[path] = b""
        elif isinstance(event, FileChunk):
            files[path] += event.data
    return files, [event for event in events if isinstance(event, Message)]


def test_a_bundle_is_read_as_it_was_written():
    reader = Reader()

    files, messages = content(reader.feed(a_bundle()))

    assert files == {"out/model/model.h5": b"bytes", "empty": b""}
    assert messages == [Message("ended", {"status": 0})]
    assert reader.between_bundles


@given(st.lists(st.integers(1, 9), max_size=80))
def test_bytes_may_come_in_pieces_of_any_size(cuts):
    data, reader, events = a_bundle() * 2, Reader(), []
    for cut in cuts:
        events += reader.feed(data[:cut])
        data = data[cut:]
    events += reader.feed(data)

    assert content(events)[0] == {"out/model/model.h5": b"bytes", "empty": b""}
    assert len(content(events)[1]) == 2


def test_bytes_that_end_in_the_middle_are_not_between_bundles():
    reader = Reader()

    reader.feed(a_bundle()[:-1])

    assert not reader.between_bundles


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../b", "", ".", "a//b", "a\nb", "x" * 2_000]
)
def test_a_path_that_is_not_plain_is_refused(path):
    with pytest.raises(InvalidInput):
        Reader().feed(frames.HEAD.pack(frames.FILE, len(path), 1) + path.encode() + b"1")


@pytest.mark.parametrize(
    "data",
    [
        b"\x09" + bytes(10),
        frames.HEAD.pack(frames.FILE, 3, 0) + b"\xff\xfe\xfd",
        frames.HEAD.pack(frames.MESSAGE, 1, 4) + b"vnull",
        frames.HEAD.pack(frames.MESSAGE, 1, 3) + b"v{1}",
        frames.HEAD.pack(frames.MESSAGE, 1, 100_000) + b"v" + b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_frames_are_refused(data):
    with pytest.raises(InvalidInput):
        Reader().feed(data)


def test_a_size_beyond_the_bound_is_refused_before_its_bytes_come():
    reader = Reader(Bounds(total_bytes=100))

    with pytest.raises(InvalidInput, match="larger"):
        reader.feed(frames.file_head("bomb", 10 << 30))


def test_many_small_files_meet_the_bound_together():
    reader = Reader(Bounds(total_bytes=100))
    reader.feed(frames.file_head("one", 60) + bytes(60))

    with pytest.raises(InvalidInput, match="larger"):
        reader.feed(frames.file_head("two", 60))


def test_the_next_bundle_has_the_whole_bound_again():
    reader = Reader(Bounds(total_bytes=100))
    bundle = frames.file_head("one", 60) + bytes(60) + frames.message("end", {})

    assert len(reader.feed(bundle + bundle)) == 6


def test_too_many_files_are_refused():
    reader = Reader(Bounds(files=2))

    with pytest.raises(InvalidInput, match="too many"):
        reader.feed(b"".join(frames.file_head(f"file-{n}", 0) for n in range(3)))


def test_a_file_named_twice_is_refused():
    with pytest.raises(InvalidInput, match="twice"):
        Reader().feed(frames.file_head("x", 0) * 2)


def test_a_message_beyond_its_bound_is_refused():
    with pytest.raises(InvalidInput, match="larger"):
        Reader(Bounds(message_bytes=10)).feed(frames.message("v", {"long": "x" * 50}))


def test_a_reader_that_raised_stays_closed():
    reader = Reader()
    with pytest.raises(InvalidInput):
        reader.feed(b"\x09" + bytes(10))

    with pytest.raises(InvalidInput, match="stay closed"):
        reader.feed(a_bundle())


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_a_refusal(data):
    reader = Reader(Bounds(1_000, 5, 1_000))
    try:
        reader.feed(data)
    except InvalidInput:
        assert not reader.between_bundles
