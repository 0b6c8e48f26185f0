"""Proof files on disk: a bundle, and beside it a `.tlog-proof` for tools that know no Tilth.

The second (c2sp.org/tlog-proof) holds less: one entry, its place, and the cosigned checkpoint. It
proves that the entry stands in the log; the bundle also proves who wrote it and what follows.
"""

import json
import zlib
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path

from tilth_ledger.proofs import TlogProof

SUFFIX = ".tlog-proof"


def write_proofs(file: Path, bundle: bytes, indexes: Sequence[int]) -> list[Path]:
    """Writes a bundle, and beside it a proof file for each of these entries; returns all files.

    The first proof file has the bundle's name, the others their index in it as well. Without a
    cosigned checkpoint in the bundle there is none.
    """
    file.write_bytes(bundle)
    written = [file]
    for place, index in enumerate(indexes):
        proof = proof_file(bundle, index)
        if proof is not None:
            name = file.stem if place == 0 else f"{file.stem}-{index}"
            written.append(file.with_name(name + SUFFIX))
            written[-1].write_bytes(proof)
    return written


def proof_file(bundle: bytes, index: int) -> bytes | None:
    """The proof file of one leaf of a bundle (version 2); None when no checkpoint is in it."""
    value = json.loads(bundle)
    if "checkpoint" not in value:
        return None
    content, at = zlib.decompress(b64decode(value["content"])), 0
    for leaf in (*value["epochs"], *value["leaves"]):
        start, at = at, at + leaf["length"]
        if leaf["index"] == index:
            break
    path = tuple(b64decode(value["hashes"][place]) for place in leaf["path"])
    extra = content[start:at]
    return TlogProof(index, path, value["checkpoint"].encode(), extra).encode()
