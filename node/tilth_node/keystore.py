"""The keys of a node, in FOLDER/keys: made here once, readable by the owner alone, never sent.

- One member seed gives the vote, cosign (Ed25519 and ML-DSA-44) and log keys by label; the node's
  and the admin's keys have seeds of their own, so that the admin's can be taken off the machine.
- The TLS authority is a key of another kind: rotating a certificate never touches a vote key.
- A rotation puts new ones beside the old, into keys/1, keys/2 and so on: nothing is written over,
  and a node uses, for each purpose, the one that the ledger lists. So it needs no restart at the
  moment when they begin to count, and none of the old ones is gone if they never do.
- A file that others can read, or that is not a seed, is refused with what to do.
"""

import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import MLDSA, Organization
from tilth_ledger.keys import KEY_BYTES, PublicKey, SigningKey
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_node import tls
from tilth_node.clock import Clock
from tilth_node.folder import SECRET, write_file

MEMBER, NODE, ADMIN = "member.seed", "node.seed", "admin.seed"
AUTHORITY_KEY, AUTHORITY = "authority.key", "authority.pem"
CROSSED = "crossed.pem"  # by which older authorities vouch for this one, newest first
SEEDS = {"member": MEMBER, "node": NODE, "admin": ADMIN}
TLS = "tls"


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
    crossed: bytes = b""  # PEM: what older authorities say of it


def create(folder: Path, clock: Clock, authority: tuple[bytes, bytes]) -> None:
    """Make FOLDER/keys with fresh seeds and the (key, certificate) of a TLS authority."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in (MEMBER, NODE, ADMIN):
        write_file(folder / name, clock.random(KEY_BYTES).hex().encode() + b"\n", SECRET)
    write_file(folder / AUTHORITY_KEY, authority[0], SECRET)
    write_file(folder / AUTHORITY, authority[1])


def rotate(
    folder: Path,
    clock: Clock,
    what: Collection[str],
    authority: tuple[bytes, bytes],
    *,
    overlap: bool = True,
) -> Path:
    """Make new seeds (of "member", "node", "admin") and, for "tls", a new authority, beside those
    that there are; the folder that holds them. With `overlap` the old authority vouches for the
    new one."""
    chain = _vouched(folder, authority[1], clock) if overlap and TLS in what else b""
    new = folder / str(len(_rotations(folder)) + 1)
    new.mkdir(mode=0o700)
    for name in what:
        if name == TLS:
            write_file(new / CROSSED, chain)
            write_file(new / AUTHORITY_KEY, authority[0], SECRET)
            write_file(new / AUTHORITY, authority[1])
        else:
            seed = clock.random(KEY_BYTES).hex().encode() + b"\n"
            write_file(new / SEEDS[name], seed, SECRET)
    # A crash before the last one leaves a rotation that lacks some: the older ones stand in.
    return new


def _vouched(folder: Path, new: bytes, clock: Clock) -> bytes:
    """What the newest authority says of one that takes its place, and what others said of it."""
    old = load_newest(folder)
    return tls.crossed(new, old.authority_key, old.authority, clock.utc()) + old.crossed


def load(folder: Path, listed: Organization | None = None) -> Keys:
    """Read the keys that a running node needs: those that the ledger lists for it, the first ones
    where it lists none of these. The admin's is not one of them."""
    member, node = _seed(folder / MEMBER), _seed(folder / NODE)
    authority = folder
    if listed is not None:
        members = ((key, key.derive("vote").public) for key in _seeds(folder, MEMBER))
        member = _listed(members, listed.keys.vote) or member
        nodes = ((key, key.public) for key in _seeds(folder, NODE))
        node = _listed(nodes, listed.keys.node) or node
        stated = listed.tls_authority.encode()
        held = [place for place in _places(folder, AUTHORITY) if _read(place) == stated]
        authority = held[0].parent if held else folder
    return _keys(member, node, authority)


def load_newest(folder: Path) -> Keys:
    """The newest key of each purpose, whether or not the ledger lists it yet."""
    member, node = next(_seeds(folder, MEMBER)), next(_seeds(folder, NODE))
    return _keys(member, node, _places(folder, AUTHORITY)[0].parent)


def vote_key(folder: Path, public: PublicKey) -> SigningKey | None:
    """The signing key of a public vote key, if this folder holds it."""
    keys = (seed.derive("vote") for seed in _seeds(folder, MEMBER))
    return next((key for key in keys if key.public == public), None)


def load_admin(folder: Path) -> SigningKey:
    """The key of the organization's first identity, for commands on the node's machine."""
    return _seed(folder / ADMIN)


def load_newest_admin(folder: Path) -> SigningKey:
    """The newest admin's key; those of before may be revoked."""
    return next(_seeds(folder, ADMIN))


def newest_signers(folder: Path) -> dict[str, SigningKey]:
    """The newest key for each purpose that a member file names."""
    keys = load_newest(folder)
    own = {name: getattr(keys, name) for name in ("vote", "cosign", "log", "node")}
    return {**own, "admin": load_newest_admin(folder)}


def authorities(folder: Path) -> bytes:
    """The certificates of all TLS authorities that this node ever had, as PEM."""
    return b"".join(_read(place) for place in _places(folder, AUTHORITY))


def _keys(member: SigningKey, node: SigningKey, authority: Path) -> Keys:
    authority_key, certificate = _authority(authority)
    return Keys(
        vote=member.derive("vote"),
        cosign=member.derive("cosign"),
        log=member.derive("log"),
        mldsa=MlDsaSigningKey.from_seed(member.derive_seed(MLDSA)),
        node=node,
        authority_key=authority_key,
        authority=certificate,
        crossed=_read(authority / CROSSED) if (authority / CROSSED).exists() else b"",
    )


def _authority(folder: Path) -> tuple[bytes, bytes]:
    """Key and certificate of a TLS authority, which belong together."""
    key, shown = _secret(folder / AUTHORITY_KEY), _read(folder / AUTHORITY)
    tls.check_authority(folder / AUTHORITY_KEY, key, folder / AUTHORITY, shown)
    return key, shown


def _rotations(folder: Path) -> list[Path]:
    """The folders of rotations, newest first."""
    found = [each for each in folder.iterdir() if each.is_dir() and each.name.isdecimal()]
    return sorted(found, key=lambda each: -int(each.name))


def _places(folder: Path, name: str) -> list[Path]:
    """Where keys of this name lie, newest first; the first one always."""
    newer = [each / name for each in _rotations(folder) if (each / name).exists()]
    return [*newer, folder / name]


def _seeds(folder: Path, name: str) -> Iterator[SigningKey]:
    return (_seed(place) for place in _places(folder, name))


def _listed(keys: Iterator[tuple[SigningKey, PublicKey]], wanted: PublicKey) -> SigningKey | None:
    return next((key for key, public in keys if public == wanted), None)


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
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read",
            found=error.strerror,
            remedy="restore it from its backup, and look at the disk",
        ) from error
