"""The keys of a node, in FOLDER/keys: made here once, readable by the owner alone, never sent.

- One member seed gives the vote, cosign (Ed25519 and ML-DSA-44) and log keys by label; the node's
  and the admin's keys have seeds of their own, so that the admin's can be taken off the machine.
- The TLS authority is a key of another kind: rotating a certificate never touches a vote key.
- A file that others can read, or that is not a seed, is refused with what to do.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import MLDSA
from tilth_ledger.keys import KEY_BYTES, SigningKey
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_node.clock import Clock
from tilth_node.folder import SECRET, write_file

MEMBER, NODE, ADMIN = "member.seed", "node.seed", "admin.seed"
AUTHORITY_KEY, AUTHORITY = "authority.key", "authority.pem"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a running node signs with."""

    vote: SigningKey
    cosign: SigningKey
    log: SigningKey
    mldsa: MlDsaSigningKey
    node: SigningKey
    authority_key: bytes = field(repr=False)  # PEM
    authority: bytes  # PEM


def create(folder: Path, clock: Clock, authority: tuple[bytes, bytes]) -> None:
    """Make FOLDER/keys with fresh seeds and the (key, certificate) of a TLS authority."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (MEMBER, NODE, ADMIN):
        write_file(folder / name, clock.random(KEY_BYTES).hex().encode() + b"\n", SECRET)
    write_file(folder / AUTHORITY_KEY, authority[0], SECRET)
    write_file(folder / AUTHORITY, authority[1])


def load(folder: Path) -> Keys:
    """Read the keys that a running node needs; the admin's is not one of them."""
    member = _seed(folder / MEMBER)
    return Keys(
        vote=member.derive("vote"),
        cosign=member.derive("cosign"),
        log=member.derive("log"),
        mldsa=MlDsaSigningKey.from_seed(member.derive_seed(MLDSA)),
        node=_seed(folder / NODE),
        authority_key=_secret(folder / AUTHORITY_KEY),
        authority=_read(folder / AUTHORITY),
    )


def load_admin(folder: Path) -> SigningKey:
    """The key of the organization's first identity, for commands on the node's machine."""
    return _seed(folder / ADMIN)


def _seed(path: Path) -> SigningKey:
    text = _secret(path).strip()
    try:
        return SigningKey.from_seed(bytes.fromhex(text.decode("ascii")))
    except (ValueError, InvalidInput):
        # The cause would quote the text, which may be most of a secret.
        raise InvalidInput(
            f"{path} is no seed",
            found=f"{len(text)} characters",
            expected="64 hex digits",
            remedy="restore the file from its backup",
        ) from None


def _secret(path: Path) -> bytes:
    content = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InvalidInput(
            f"{path} can be read by others",
            found=f"mode {mode:04o}",
            expected="0600",
            remedy=f"chmod 600 {path}, and think about who has seen it",
        )
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{path} is missing",
            remedy="restore it from its backup, or make a new node with: tilth node init",
        ) from error
