"""Decoders of what a node keeps on its disk, fetches from others, or is handed by an isolation."""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h11
from decoder import Decoder, of_text

from tilth import recipes
from tilth.algorithm import manifest
from tilth_ledger import (
    archive,
    canonical,
    history,
    lthash,
    notes,
    results,
    snapshot_rows,
    snapshots,
)
from tilth_ledger.audit_checks import read_justification
from tilth_ledger.blocks import Block, Certificate, Vote
from tilth_ledger.errors import InvalidInput, PeerFault
from tilth_ledger.keys import PublicKey
from tilth_ledger.merkle import Frontier
from tilth_ledger.mldsa import MlDsaKey
from tilth_ledger.reader import Reader
from tilth_node import config, introductions
from tilth_node.http.routes import page
from tilth_node.rpc import wire
from tilth_node.rpc.asks import told
from tilth_node.runtimes import dockerfile, parcels
from tilth_node.runtimes.unpack import unpack
from tilth_node.storage.ledger_store import read_blocks, write_blocks
from tilth_node.worker.blobs import _parse as parse_blob_ask
from tilth_protos import peers_pb2 as pb

Ballots = tuple[list[Vote], list[Certificate], list[Block]]

MANIFEST = b"""format = "tilth-1"
name = "mean"
capabilities = ["train"]
[commands]
train = ["./train", "--fast"]
[python]
class = "code:Mean"
[[parameters]]
name = "rate"
type = "number"
"""
LOCK = (
    b"numpy==2.0.0 \\\n  --hash=sha256:"
    + b"ab" * 32
    + b"\nscipy==1.14.0 --hash=sha256:"
    + b"0" * 64
)
SCORE = (
    b'{"all":0.75,"count":4,"interval":[0.5,1],"named":{"a":1e-3},'
    b'"statistics":{"labels":[0,1],"matrix":[[1,2],[3,4]]}}'
)
INTRODUCTIONS = (
    b'{"format":"tilth-peers-1","net":"n","size":3,"organizations":[{"organization":"north",'
    b'"tls_authority":"-----BEGIN CERTIFICATE-----","peer_address":"a.example:7100"}]}'
)
REQUEST = b"GET /tile/0/x001/234.p/7 HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n"


def kept_decoders(ballots: Ballots) -> list[Decoder]:
    return [*_fetched(ballots), *_stored(ballots), *_keys(), *_asked(), *_handed()]


def _fetched(ballots: Ballots) -> list[Decoder]:
    """Snapshots and past blocks."""
    _, (_, _, final), (first, second) = ballots
    below = Frontier(3, (b"a" * 32, b"b" * 32))
    offer = snapshots.Offer(
        (
            snapshots.Milestone(Frontier(), first, final, (second,)),
            snapshots.Milestone(below, second, final, ()),
        ),
        7,
        1_000,
    )
    past = history.Past(second, final, (first,))
    stretch = history.Stretch(below, (history.Past(first), past))
    rows = (("plan/a/b", b"{}"), ("\u00e9", b'{"a":1}'))
    part = snapshot_rows.Part(9, (("", b""), ("a/1", None)), rows, ended=True)
    place = snapshot_rows.Place(9, "plan/\u00e9")
    return [
        Decoder("offer", snapshots.Offer.decode, (offer.encode(),), snapshots.Offer.encode),
        Decoder("stretch", history.Stretch.decode, (stretch.encode(),), history.Stretch.encode),
        Decoder(
            "part of a snapshot",
            snapshot_rows.Part.decode,
            (part.encode(), replace(part, rows=(), anew=True).encode()),
            snapshot_rows.Part.encode,
        ),
        Decoder(
            "place in a snapshot",
            snapshot_rows.Place.decode,
            (place.encode(),),
            snapshot_rows.Place.encode,
        ),
        Decoder(
            "frontier",
            _whole(snapshots.read_frontier),
            (snapshots.write_frontier(below),),
            snapshots.write_frontier,
        ),
    ]


def _stored(ballots: Ballots) -> list[Decoder]:
    """What stands in the files of a node."""
    _, _, blocks = ballots
    why = blocks[1].justification
    state = lthash.LtHash().replace((), [("key", b"value")]).state
    return [
        Decoder("justification", read_justification, (why.encode(),), lambda j: j.encode()),
        Decoder(
            "kept blocks",
            read_blocks,
            (write_blocks([each.encode() for each in blocks]),),
            write_blocks,
        ),
        Decoder("set hash", lthash.LtHash.from_state, (state,), lambda value: value.state),
    ]


def _keys() -> list[Decoder]:
    return [
        Decoder("public key", of_text(PublicKey.from_hex), (b"3b" * 32,), _hex),
        Decoder("ML-DSA-44 key", of_text(MlDsaKey.from_hex), (b"3b" * 1312,), _hex),
        Decoder("name of a key", of_text(notes.check_name), ("h\u00f4pital/a".encode(),)),
    ]


def _asked() -> list[Decoder]:
    """Requests of strangers and of other nodes, and the words with which those fail."""
    ask = b'{"digest":"' + b"ab" * 32 + b'","offset":1,"size":2}'
    words = b'{"kind":"refused","rule":"P6","message":"no","found":"x"}'
    return [
        Decoder("HTTP request", _request, (REQUEST,), declared=(h11.RemoteProtocolError,)),
        Decoder("frames of a peer", _peer_frames, (_peer_stream(),), declared=(PeerFault,)),
        Decoder("HTTP target", of_text(page), (b"/policy/7", b"/tile/entries/000.p/3")),
        Decoder("ask for a blob", parse_blob_ask, (ask,)),
        Decoder("another node's error", told, (words,), declared=(PeerFault,)),
        Decoder("introductions", lambda data: introductions.read(data, "n"), (INTRODUCTIONS,)),
        Decoder("address", of_text(config.address), (b"[::1]:80", b"a.example:7100")),
    ]


def _handed() -> list[Decoder]:
    """What people's code and people's files say."""
    return [
        Decoder("score", results.read_score, (SCORE,)),
        Decoder("report", results.read_count, (b'{"count":3}',), declared=()),
        Decoder("manifest", _manifest, (MANIFEST,)),
        Decoder("requirements", _requirements, (LOCK, b"numpy>=2\n# remark\nscipy ~= 1.0\n")),
        Decoder(
            "Dockerfile",
            of_text(lambda text: dockerfile.images(text, "base", network=False)),
            (b"ARG BASE\nFROM ${BASE} AS one\nRUN a \\\n  b\nFROM one\nCOPY --from=one /a /b\n",),
        ),
        Decoder("engine's files", _parcel, (_tar(),), declared=(InvalidInput, tarfile.TarError)),
        Decoder("archive on disk", _unpacked, (_archive(),)),
    ]


def _whole(read: Callable[[Reader], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        reader = Reader(data, "example")
        value = read(reader)
        reader.end()
        return value

    return decode


def _hex(key: PublicKey | MlDsaKey) -> bytes:
    return key.hex.encode()


def _request(data: bytes) -> None:
    """As the listener reads: pieces go in, a request comes out, and its target names a page."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=16 << 10)
    parser.receive_data(data)
    event = parser.next_event()
    if isinstance(event, h11.Request):
        page(event.target.decode("ascii", "replace"))


def _peer_frames(data: bytes) -> list[pb.PeerFrame]:
    """As a stream takes them in, in two pieces; what is not whole waits."""

    async def read() -> list[pb.PeerFrame]:
        stream = wire.Stream()
        frames: list[pb.PeerFrame] = []
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            stream._buffer += piece
            while (frame := stream._next()) is not None:
                frames.append(frame)
        return frames

    return asyncio.run(read())


def _peer_stream() -> bytes:
    frames = (
        pb.PeerFrame(hello=pb.Hello(net="n", organization="north", versions=[1])),
        pb.PeerFrame(consensus=pb.Consensus(messages=[b"one", b"two"])),
        pb.PeerFrame(),
        pb.PeerFrame(ask=pb.Ask(id=1, method="past", body=bytes(8))),
    )
    parts = [frame.SerializeToString() for frame in frames]
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def _manifest(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / manifest.FILE).write_bytes(data)
        canonical.dumps(manifest.read(Path(folder)).as_registered())


def _requirements(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_bytes(data)
        recipes.of(file)


def _parcel(data: bytes) -> None:
    parcels.incoming([data], 1 << 20, 10, lambda _path, _size, _executable, content: content.read())


def _unpacked(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "inside"
        try:
            unpack(data, inside)
        finally:
            assert set(Path(folder).iterdir()) <= {inside}


def _archive() -> bytes:
    files = [archive.ArchiveFile("a/b", True, b"#!"), archive.ArchiveFile("c", False, b"")]
    return archive.write(files)


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in (("out/log", b"words"), ("out/task/model", b"12")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
