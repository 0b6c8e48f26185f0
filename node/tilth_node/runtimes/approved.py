"""Which image may run for an environment, as this node's operator said: one small file.

- `approved.json` maps an environment's digest to an image's id, both as 64 hexadecimal digits. It
  is written by the operator's commands alone and read by the node before each use, so that a word
  of the operator counts at once and neither overwrites the other's file.
- An environment that is listed runs in exactly that image, or not at all.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tilth_ledger.canonical import dumps
from tilth_ledger.errors import InvalidInput
from tilth_node.folder import write_file

FILE: Final = "approved.json"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def load(file: Path) -> Mapping[str, str]:
    """Environment digest -> image. Raises InvalidInput on a file that says something else."""
    try:
        stated = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _broken(file, str(error)) from None
    pairs = stated.items() if isinstance(stated, dict) else ((stated, ""),)
    if not all(isinstance(x, str) and _DIGEST.fullmatch(x) for pair in pairs for x in pair):
        raise _broken(file, "something else")
    return dict(pairs)


def approve(file: Path, environment: str, image: str) -> None:
    """From now on the environment runs in this image alone."""
    _save(file, {**load(file), environment: image})


def forget(file: Path, environment: str) -> bool:
    """The operator says nothing about it any more; False when nothing was said."""
    known = dict(load(file))
    if known.pop(environment, None) is None:
        return False
    _save(file, known)
    return True


def _save(file: Path, approved: Mapping[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, dumps(dict(approved)))


def _broken(file: Path, found: str) -> InvalidInput:
    return InvalidInput(
        f"{file} cannot be read",
        found=found,
        expected="environment digests with the ids of their images",
        remedy="remove it, and approve the images again: tilth node image approve",
    )
