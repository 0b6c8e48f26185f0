"""Every function that reads bytes or text from outside is fuzzed, or says here why not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from decoders import DECODERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ledger/tilth_ledger", "node/tilth_node", "sdk/tilth", "metrics/tilth_metrics")
READS = re.compile(
    r"_?(decode|parse|loads|read|unpack|told|from|feed|page|incoming|gather|open|verify)(_\w+)?"
)
OUTSIDE = {"bytes", "bytearray", "Reader", "IO[bytes]", "Iterable[bytes]", "Sequence[bytes]"}
TEXT = {"str", "object", "Any", "Mapping[str, Any]", "Mapping[str, str]"}
OF_TEXT = re.compile(r"_?(decode|parse|unpack|from|page|verify)(_\w+)?")

MESSAGE, BLOCK = "fuzzed: message", "fuzzed: block"
OWN_ROW = "a row that this ledger's members agreed on"
SIGNED = "bytes of a fixed length and any message: the vectors and test_keys.py try them"
OWN_NODE = "the words of one's own node, over its authority's TLS"
KINDS = (
    "Gossip",
    "Proposal",
    "Votes",
    "Certificates",
    "Status",
    "FetchBlock",
    "Body",
    "FetchChain",
    "Chain",
    "Accusation",
    "Cosignatures",
    "Barrier",
)

LISTED: dict[str, str] = {
    "tilth_ledger.archive:read": "fuzzed: archive",
    "tilth_ledger.audit_checks:read_justification": "fuzzed: justification",
    "tilth_ledger.blocks:Header.decode": "fuzzed: header",
    "tilth_ledger.blocks:Vote.decode": "fuzzed: vote",
    "tilth_ledger.blocks:Vote.read": "fuzzed: vote",
    "tilth_ledger.blocks:Certificate.decode": "fuzzed: certificate",
    "tilth_ledger.blocks:Certificate.read": "fuzzed: certificate",
    "tilth_ledger.blocks:Justification.read": "fuzzed: justification",
    "tilth_ledger.blocks:Block.decode": BLOCK,
    "tilth_ledger.canonical:loads": "fuzzed: canonical",
    "tilth_ledger.checkpoints:Checkpoint.parse": "fuzzed: checkpoint",
    "tilth_ledger.checkpoints:CosignatureVerifier.verify": SIGNED,
    "tilth_ledger.checkpoints:MlDsaVerifier.verify": SIGNED,
    "tilth_ledger.checkpoints:MlDsaVerifier.verify_subtree": SIGNED,
    "tilth_ledger.cosigning:verify_outside": SIGNED,
    "tilth_ledger.errors:from_dict": "fuzzed: another node's error",
    "tilth_ledger.evidence:Evidence.parse": "fuzzed: evidence",
    "tilth_ledger.forms:Forms._parse": "fuzzed: leaf, entry",
    "tilth_ledger.frames:Reader.feed": "fuzzed: frames",
    "tilth_ledger.execution:Executor.verify_ahead": "ledger/test_verified_ahead.py: changed",
    "tilth_ledger.genesis:Genesis.parse": "fuzzed: genesis",
    "tilth_ledger.genesis:Organization.from_row": OWN_ROW,
    "tilth_ledger.genesis:parse_member_file": "fuzzed: member file",
    "tilth_ledger.history:Past.read": "fuzzed: stretch",
    "tilth_ledger.history:Stretch.decode": "fuzzed: stretch",
    "tilth_ledger.journal_records:decode_record": "fuzzed: journal record",
    "tilth_ledger.journal_records:read_journal": "fuzzed: journal",
    "tilth_ledger.keys:PublicKey.from_hex": "fuzzed: public key",
    "tilth_ledger.keys:PublicKey.verify": SIGNED,
    "tilth_ledger.keys:SigningKey.from_seed": "one's own 32 bytes",
    "tilth_ledger.leaf:Leaf.decode": "fuzzed: leaf",
    "tilth_ledger.lthash:LtHash.from_state": "fuzzed: set hash",
    **{f"tilth_ledger.messages:{kind}.read": MESSAGE for kind in KINDS},
    "tilth_ledger.messages:_read_list": MESSAGE,
    "tilth_ledger.messages:decode_message": MESSAGE,
    "tilth_ledger.merkle:verify_inclusion": "hashes of one length: test_merkle.py",
    "tilth_ledger.mldsa:MlDsaKey.from_hex": "fuzzed: ML-DSA-44 key",
    "tilth_ledger.mldsa:MlDsaKey.verify": SIGNED,
    "tilth_ledger.mldsa:MlDsaSigningKey.from_seed": "one's own 32 bytes",
    "tilth_ledger.notes:Line.parse": "fuzzed: note's line",
    "tilth_ledger.notes:Note.decode": "fuzzed: note",
    "tilth_ledger.notes:NoteVerifier.verify": SIGNED,
    "tilth_ledger.notes:Verifier.verify": "a protocol",
    "tilth_ledger.notes:VerifierKey.parse": "fuzzed: verifier key",
    "tilth_ledger.notes:open_note": "fuzzed: opened note",
    "tilth_ledger.policies:Policy.parse": "fuzzed: policy",
    "tilth_ledger.proofs:TlogProof.decode": "fuzzed: proof file",
    "tilth_ledger.rebase:_parse": "fuzzed: statement of a rebase",
    "tilth_ledger.rebase:gather": "fuzzed: statement of a rebase",
    "tilth_ledger.results:read_count": "fuzzed: report",
    "tilth_ledger.results:read_score": "fuzzed: score",
    "tilth_ledger.rows:parse_row": OWN_ROW,
    "tilth_ledger.rows:read_row": OWN_ROW,
    "tilth_ledger.snapshot_rows:Part.decode": "fuzzed: part of a snapshot",
    "tilth_ledger.snapshot_rows:Place.decode": "fuzzed: place in a snapshot",
    "tilth_ledger.snapshot_rows:_read": "fuzzed: part of a snapshot",
    "tilth_ledger.snapshots:Milestone.read": "fuzzed: offer",
    "tilth_ledger.snapshots:Offer.decode": "fuzzed: offer",
    "tilth_ledger.snapshots:read_frontier": "fuzzed: frontier",
    "tilth_ledger.tiles:Tile.parse": "fuzzed: tile's path",
    "tilth_ledger.tiles:read_entry_bundle": "fuzzed: entry bundle",
    "tilth_ledger.token:Token.parse": "fuzzed: token",
    "tilth_ledger.witnessing:read_lines": "fuzzed: witness' lines",
    "tilth_ledger.witnessing:read_size": "fuzzed: witness' size",
    "tilth_node.beside:read_frame": "what a process of one's own wrote",
    "tilth_node.hashing_aside:read_rows": "node/test_hashing_aside.py: cut, changed",
    "tilth_node.http.routes:page": "fuzzed: HTTP target",
    "tilth_node.reading_ahead:read_block": "node/test_reading_ahead.py: cut, changed",
    "tilth_node.introductions:read": "fuzzed: introductions",
    "tilth_node.rpc.asks:told": "fuzzed: another node's error",
    "tilth_node.rpc.interceptors:_Guarded.parse": "node/test_rpc_damaged.py: every method",
    "tilth_node.runtimes.__init__:Handle.from_json": "this node's own record of a step",
    "tilth_node.runtimes.imagefile:read": "fuzzed: image file",
    "tilth_node.runtimes.parcels:incoming": "fuzzed: engine's files",
    "tilth_node.runtimes.unpack:unpack": "fuzzed: archive on disk",
    "tilth_node.storage.ledger_store:read_blocks": "fuzzed: kept blocks",
    "tilth_node.witness_address:WitnessAddress.parse": "fuzzed: witness' address",
    "tilth_node.worker.blobs:_parse": "fuzzed: ask for a blob",
    "tilth.algorithm.manifest:parse": "fuzzed: manifest",
    "tilth.assets:Algo.from_row": OWN_ROW,
    "tilth.assets:Dataset.from_row": OWN_ROW,
    "tilth.assets:Environment.from_row": OWN_ROW,
    "tilth.assets:Objective.from_row": OWN_ROW,
    "tilth.assets:PlanStatus.from_row": OWN_ROW,
    "tilth.assets:SampleSet.from_row": OWN_ROW,
    "tilth.assets:TaskStatus.from_row": OWN_ROW,
    "tilth.images:OfferedImage.from_row": OWN_ROW,
    "tilth.models:Model.from_row": OWN_ROW,
    "tilth.profiles:_parse": "the user's own profiles",
    "tilth.samples:Sample.from_row": OWN_ROW,
    "tilth.verifier:_verify": "fuzzed: bundle",
    "tilth.verifier:verify": "fuzzed: bundle, recorded bundle, verifier's genesis",
}
# Decoders whose functions have other names.
OTHERWISE = {
    "Dockerfile",
    "HTTP request",
    "address",
    "frames of a peer",
    "name of a key",
    "requirements",
}


def readers() -> Iterator[str]:
    """module:function of everything that looks as if it read what others wrote."""
    for package in PACKAGES:
        root = ROOT / package
        for file in root.rglob("*.py"):
            if "user-code" not in file.parts:
                parts = file.relative_to(root.parent).with_suffix("").parts
                yield from _of(ast.parse(file.read_text()), ".".join(parts) + ":")


def _of(node: ast.Module | ast.ClassDef, place: str) -> Iterator[str]:
    for each in node.body:
        if isinstance(each, ast.ClassDef):
            yield from _of(each, f"{place}{each.name}.")
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            takes = _first(each)
            text = takes in TEXT and OF_TEXT.fullmatch(each.name)
            if text or (takes in OUTSIDE and READS.fullmatch(each.name)):
                yield f"{place}{each.name}"


def _first(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The annotation of the first parameter that is not the object."""
    given = [a for a in function.args.args if a.arg not in ("self", "cls")]
    kind = ast.unparse(given[0].annotation) if given and given[0].annotation else ""
    return kind.removeprefix("builtins.")


def named() -> set[str]:
    """The decoders that the list names."""
    fuzzed = [why.removeprefix("fuzzed: ") for why in LISTED.values() if why.startswith("fuzzed: ")]
    return {name for each in fuzzed for name in re.sub(r" \(.*\)", "", each).split(", ")}


def test_what_reads_from_outside_is_fuzzed_or_says_why_not() -> None:
    found = set(readers())
    assert found - LISTED.keys() == set()
    assert LISTED.keys() - found == set()


def test_the_list_names_every_decoder_that_is_fuzzed_and_no_other() -> None:
    assert named() | OTHERWISE == {decoder.name for decoder in DECODERS}


def test_a_new_decoder_would_be_noticed() -> None:
    new = "class Late:\n    @staticmethod\n    def decode(data: bytes) -> int: ...\n"
    assert list(_of(ast.parse(new), "m:")) == ["m:Late.decode"]
    own = "def read(path: Path) -> int: ...\ndef write(data: bytes) -> int: ...\n"
    assert list(_of(ast.parse(own), "m:")) == []
