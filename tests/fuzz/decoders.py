"""Decoders of bytes or text that come from outside, with good examples of each.

A decoder either gives back what encodes to the very same bytes, or raises the one error that it
declares. `attempt` tries that; the tests of this folder and `run.py` only choose the bytes.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from decoder import Decoder, of_text
from kept import kept_decoders
from proven_world import ORGANIZER, PEM, row, site
from small_image import made
from stage import Stage

from tilth import verifier
from tilth_ledger import archive, canonical, frames, policies, rebase, tiles, witnessing
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Block, Certificate, Header, Vote
from tilth_ledger.checkpoints import Checkpoint, cosign, cosigner_name, origin_of
from tilth_ledger.checkpoints import verifier as verifier_of
from tilth_ledger.errors import Fatal, TilthError
from tilth_ledger.evidence import Evidence
from tilth_ledger.genesis import Genesis, member_file, parse_member_file
from tilth_ledger.journal_records import (
    Accused,
    Forgotten,
    Forked,
    Held,
    OwnVote,
    Promised,
    Proven,
    decode_record,
    frame,
    read_journal,
)
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import Entry, Leaf, write_entry
from tilth_ledger.messages import (
    Accusation,
    Barrier,
    Body,
    Certificates,
    Chain,
    Cosignatures,
    FetchBlock,
    FetchChain,
    Gossip,
    Proposal,
    Signed,
    Status,
    Votes,
    decode_message,
)
from tilth_ledger.notes import Line, Note, VerifierKey, open_note, sign_line
from tilth_ledger.proofs import TlogProof
from tilth_ledger.token import Asked, Token, write_token
from tilth_node.runtimes import imagefile
from tilth_node.witness_address import WitnessAddress

OPERATIONS = 1_000
RECORDED = Path(__file__).parents[1] / "ledger" / "fixtures" / "rules_1"


def _frames(data: bytes) -> None:
    """Frames mean the same however the pipe cuts them: at once, and byte by byte."""
    at_once, refusal = _events(data, len(data) or 1)
    one_by_one, other = _events(data, 1)
    assert (at_once, refusal is None) == (one_by_one, other is None)
    if refusal is not None:
        raise refusal


def _events(data: bytes, step: int) -> tuple[list[object], TilthError | None]:
    """What a reader tells before it refuses, pieces of a file joined, and its refusal."""
    reader = frames.Reader(frames.Bounds(4_096, 8, 8_192))
    told: list[object] = []
    try:
        for at in range(0, len(data), step):
            for event in reader.feed(data[at : at + step]):
                if isinstance(event, frames.FileChunk) and isinstance(told[-1], frames.FileChunk):
                    told[-1] = frames.FileChunk(told[-1].data + event.data, event.last)
                else:
                    told.append(event)
    except TilthError as refusal:
        # What one feed completes before it refuses is lost with it; the sender broke its word.
        return [], refusal
    return told, None


def _refuses(data: bytes, genesis: bytes) -> None:
    """The verifier raises nothing at all: it reports."""
    report = verifier.verify(data, genesis)
    assert report.ok or report.refusal


def _ballots() -> tuple[list[Vote], list[Certificate], list[Block]]:
    stage = Stage(4, away=[0, 1, 2, 3])
    first, state = stage.block(1, ["a", "b"])
    notarized = stage.certificate(NOTARIZE, 1, first.hash)
    skip = stage.certificate(NULLIFY, 2)
    second, _ = stage.block(3, ["c"], first, notarized, [skip], state)
    final = stage.certificate(FINALIZE, 3, second.hash)
    votes = [stage.vote(m, FINALIZE, 3, second.hash) for m in range(3)]
    votes += [stage.vote(2, NULLIFY, 3), stage.vote(1, NOTARIZE, 1, first.hash)]
    return votes, [notarized, skip, final], [first, second]


def _image() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return made(Path(folder))


def _votes(net: str, key: SigningKey) -> list[Decoder]:
    """What members say to one another, and what each keeps of it."""
    votes, certificates, blocks = _ballots()
    evidence = Evidence.of(votes[2], votes[3])
    messages = (
        Gossip((b"", b"leaf")),
        Proposal(votes[0], blocks[1]),
        Votes(tuple(votes)),
        Certificates(tuple(certificates)),
        Status(0, 9, 8, 7, 6, 5, bytes(range(32)), True, tuple(votes[:1])),
        FetchBlock(blocks[0].hash),
        Body(blocks[1]),
        FetchChain(12),
        Chain(tuple(b.encode() for b in blocks), certificates[2]),
        Accusation((evidence,)),
        Barrier((b"n" * 16,)),
        Cosignatures(True, 0, 3, bytes(32), (Signed(1, 1, bytes(64)), Signed(2, 4, bytes(72)))),
    )
    records = (
        *(OwnVote(vote) for vote in votes),
        Held(blocks[1]),
        Proven(certificates[0]),
        Promised(7, 5, 9),
        Forgotten(votes[0]),
        Accused(evidence),
        Forked(certificates[2], certificates[2]),
    )
    statement = rebase.sign("north", key, blocks[1].header, certificates[2])
    return [
        Decoder("header", Header.decode, (blocks[1].header.encode(),), Header.encode),
        Decoder("vote", Vote.decode, tuple(v.encode() for v in votes), Vote.encode),
        Decoder(
            "certificate",
            Certificate.decode,
            tuple(c.encode() for c in certificates),
            Certificate.encode,
        ),
        Decoder("block", Block.decode, tuple(b.encode() for b in blocks), Block.encode),
        Decoder(
            "message", decode_message, tuple(m.encode() for m in messages), lambda m: m.encode()
        ),
        Decoder(
            "journal record",
            decode_record,
            tuple(r.encode() for r in records),
            lambda r: r.encode(),
        ),
        Decoder(
            "journal",
            read_journal,
            (frame([r.encode() for r in records], 0),),
            declared=(Fatal,),
        ),
        Decoder(
            "evidence",
            lambda d: Evidence.parse(d, net),
            (evidence.leaf(net),),
            lambda value: value.leaf(net),
        ),
        Decoder("statement of a rebase", lambda d: rebase.gather([d]), (statement,)),
    ]


def _notes(origin: str, entry: bytes) -> list[Decoder]:
    """The formats of the C2SP specifications."""
    keys = site("north")
    head = Checkpoint(origin, 14, bytes(range(32)))
    lines = (
        sign_line(origin, keys["log"], head.text),
        cosign(cosigner_name(origin, "north"), keys["cosign"], head.text, 1_700_000_000),
    )
    note = Note(head.text, lines).encode()
    log = VerifierKey(origin, 1, keys["log"].public.raw)
    witness = VerifierKey(cosigner_name(origin, "north"), 4, keys["cosign"].public.raw)
    policy = f"log {log}\nwitness north {witness}\ngroup all 1 north\nquorum all\n".encode()
    proof = TlogProof(3, (bytes(32), bytes(range(32))), note, entry).encode()
    return [
        Decoder("note", Note.decode, (note,), Note.encode),
        Decoder("note's line", of_text(Line.parse), tuple(str(line).encode() for line in lines)),
        Decoder(
            "opened note",
            lambda d: open_note(d, [verifier_of(log), verifier_of(witness)]),
            (note,),
        ),
        Decoder("verifier key", of_text(VerifierKey.parse), (str(log).encode(),)),
        Decoder("checkpoint", of_text(Checkpoint.parse), (head.text.encode(),)),
        Decoder("policy", policies.Policy.parse, (policy,)),
        Decoder(
            "tile's path", of_text(tiles.Tile.parse), (b"tile/0/x001/234.p/7", b"tile/entries/000")
        ),
        Decoder(
            "entry bundle",
            lambda d: tiles.read_entry_bundle(d, 2),
            (tiles.entry_bundle([entry, b"x"]),),
            tiles.entry_bundle,
        ),
        Decoder("proof file", TlogProof.decode, (proof,), TlogProof.encode),
        Decoder(
            "witness' lines",
            lambda d: witnessing.read_lines(d, note, [witness]),
            (f"{lines[1]}\n".encode(),),
        ),
        Decoder("witness' size", witnessing.read_size, (b"20852014\n", b"0\n"), b"%d\n".__mod__),
        Decoder(
            "witness' address",
            of_text(lambda text: WitnessAddress.parse(text, (str(witness),), plain_http=False)),
            (b"https://w.example:8443/w1", b"http://[::1]:80/", b"http://127.0.0.1"),
        ),
    ]


def _files(net: str) -> list[Decoder]:
    """What clients, other nodes and isolations hand over."""
    files = [
        archive.ArchiveFile("tilth.toml", False, b'format = "tilth-1"\n'),
        archive.ArchiveFile("a/run", True, b"#!/bin/sh\n"),
    ]
    framed = frames.file_head("a/b", 3) + b"xyz" + frames.message("done", {"exit": 0})
    asked = Asked(net, "north", "/tilth.v1.Ledger/Submit")
    token = write_token(ORGANIZER, asked, b"body", 1_700_000_060_000).encode()
    return [
        Decoder("token", of_text(Token.parse), (token,)),
        Decoder("archive", archive.read, (archive.write(files),), archive.write),
        Decoder("frames", _frames, (framed,)),
        Decoder("image file", lambda d: imagefile.read(io.BytesIO(d)), (_image(),)),
    ]


def _decoders() -> list[Decoder]:
    ledger, results = row()
    net = ledger.genesis.net
    member = member_file("north", "North", site("north"), PEM)
    entry = write_entry(net, "north", ORGANIZER, "00" * 16, [{"op": "x.y", "n": 1}]).encode()
    numbers = b'{"a":[1,-2,true],"b":{"c":"\xc3\xa9"}}'
    return [
        Decoder("leaf", Leaf.decode, (entry, *ledger.leaves[:4]), Leaf.encode),
        Decoder("entry", lambda d: Entry.parse(Leaf.decode(d), OPERATIONS), (entry,)),
        *_votes(net, site("north")["vote"]),
        Decoder("genesis", Genesis.parse, (ledger.genesis.bytes,)),
        Decoder("member file", parse_member_file, (member,)),
        Decoder("canonical", canonical.loads, (numbers, ledger.genesis.bytes)),
        *_notes(origin_of(ledger.genesis.name, net), entry),
        *_files(net),
        *kept_decoders(_ballots()),
        Decoder(
            "bundle",
            lambda d: _refuses(d, ledger.genesis.bytes),
            (ledger.bundle(*results),),
            declared=(),
        ),
        Decoder(
            "recorded bundle",  # version 2, with epochs, a checkpoint and a recorded leaderboard
            lambda d: _refuses(d, (RECORDED / "genesis.json").read_bytes()),
            ((RECORDED / "row.json").read_bytes(),),
            declared=(),
        ),
        Decoder(
            "verifier's genesis",
            lambda d: _refuses(ledger.bundle(*results), d),
            (ledger.genesis.bytes,),
            declared=(),
        ),
    ]


DECODERS = _decoders()
