"""Profiles: which node to talk to, and with which key.

A profile is one JSON file in `$TILTH_HOME/profiles` (default `~/.config/tilth/profiles`). It holds
no secret: the key, the TLS authority and the genesis file are paths.

Invariants: a profile's name is its file name; its paths are absolute; a key file is readable by its
owner alone, or it is refused.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tilth.errors import InvalidInput
from tilth_ledger.keys import SigningKey

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
FIELDS = ("address", "organization", "key", "tls_authority", "genesis")


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to reach one node as one person."""

    name: str
    address: str  # host:port of the node's client port
    organization: str  # whose node it is, and whose identity the key is
    key: Path  # 32-byte seed as 64 hexadecimal digits
    tls_authority: Path  # PEM of the organization's TLS authority
    genesis: Path

    def signing_key(self) -> SigningKey:
        """Reads the key of this profile."""
        return read_key(self.key)


def home() -> Path:
    """The folder of everything the SDK keeps on this machine."""
    chosen = os.environ.get("TILTH_HOME")
    return Path(chosen).absolute() if chosen else Path.home() / ".config" / "tilth"


def names() -> list[str]:
    """All profiles of this machine, sorted."""
    return sorted(file.stem for file in (home() / "profiles").glob("*.json"))


def load(name: str | None = None) -> Profile:
    """The named profile; without a name `$TILTH_PROFILE`, or the only one there is."""
    name = name or os.environ.get("TILTH_PROFILE") or _only_one()
    file = _file(name)
    if not file.exists():
        raise InvalidInput(
            f"there is no profile {name!r}",
            found=_known(),
            expected=str(file),
            remedy=f"Run: tilth profile add {name} --address HOST:PORT --organization ORGANIZATION "
            "--genesis genesis.json",
        )
    return _parse(name, file)


def add(
    name: str,
    *,
    address: str,
    organization: str,
    genesis: Path,
    key: Path | None = None,
    tls_authority: Path | None = None,
    place: Path | None = None,
) -> Profile:
    """Makes or replaces a profile. Without `key` a new one is made; without `tls_authority` it is
    taken from the genesis file; without `place` it is among the others of this machine."""
    place = place or home()
    file = _file(name, place)
    if tls_authority is None:
        tls_authority = file.with_suffix(".ca.pem")
        file.parent.mkdir(parents=True, exist_ok=True)
        tls_authority.write_text(_authority(genesis, organization), encoding="ascii")
    if key is None:
        key = place / "keys" / f"{name}.key"
        write_key(key)
    else:
        read_key(key)
    made = Profile(
        name, address, organization, key.absolute(), tls_authority.absolute(), genesis.absolute()
    )
    save(made, place)
    return made


def refresh(profile: Profile, authority: str, address: str | None = None) -> Profile:
    """The same profile with the TLS authority (PEM) and the address that its node has now."""
    if "BEGIN CERTIFICATE" not in authority:
        raise InvalidInput(
            "this is no TLS authority",
            found=authority[:40] or "nothing",
            expected="a certificate as PEM",
            remedy="Ask the node's operator for its authority.pem.",
        )
    file = _file(profile.name).with_suffix(".ca.pem")
    draft = file.with_suffix(".new")
    draft.write_text(authority, encoding="ascii")
    draft.replace(file)
    made = replace(profile, tls_authority=file, address=address or profile.address)
    save(made)
    return made


def save(profile: Profile, place: Path | None = None) -> Path:
    """Writes the profile's file; a crash leaves the old one."""
    file = _file(profile.name, place)
    file.parent.mkdir(parents=True, exist_ok=True)
    facts = {name: str(value) for name, value in asdict(profile).items()}
    for path in ("key", "tls_authority", "genesis"):
        facts[path] = str(Path(facts[path]).absolute())
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    draft.replace(file)
    return file


def remove(name: str) -> None:
    """Forgets a profile; its key stays where it is."""
    _file(load(name).name).unlink()


def read_key(file: Path) -> SigningKey:
    """Reads a key file; refuses one that others on this machine can read."""
    if not file.exists():
        raise InvalidInput(
            "the key of this profile is missing",
            found="no file",
            expected=str(file),
            remedy="Bring the key back, or make a new one: tilth profile add NAME",
        )
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise InvalidInput(
            "the key can be read by others on this machine",
            found=f"{file} with mode {mode:o}",
            expected="mode 600",
            remedy=f"Run: chmod 600 {file}",
        )
    try:
        seed = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise InvalidInput(
            "this is not a key file",
            found=str(file),
            expected="64 hexadecimal digits",
            remedy="Name the file that tilth profile add has written.",
        )
    return SigningKey.from_seed(seed)


def write_key(file: Path) -> SigningKey:
    """Makes a new key; never overwrites one."""
    seed = os.urandom(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(
            "there is a key at this place already",
            found=str(file),
            expected="a new file",
            remedy=f"Use it with --key {file}, or choose another name.",
        ) from None
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(seed.hex() + "\n")
    return SigningKey.from_seed(seed)


def _file(name: str, place: Path | None = None) -> Path:
    if not NAME.fullmatch(name):
        raise InvalidInput(
            "this is not a profile name",
            found=repr(name),
            expected="small letters, digits, dot, dash, underscore; at most 63",
            remedy="Choose another name.",
        )
    return (place or home()) / "profiles" / f"{name}.json"


def _authority(genesis: Path, organization: str) -> str:
    """The PEM of an organization's TLS authority, as the genesis file lists it."""
    try:
        document = json.loads(genesis.read_bytes())
        parties = [*document["members"], *document.get("organizations", ())]
        return next(str(e["tls_authority"]) for e in parties if e["organization"] == organization)
    except FileNotFoundError:
        found = "no such file"
    except (ValueError, KeyError, TypeError):
        found = "another kind of file"
    except StopIteration:
        found = f"no organization {organization}"
    raise InvalidInput(
        "the genesis file does not say how to recognize the node",
        found=f"{found} in {genesis}",
        expected=f"a genesis file that lists {organization}",
        remedy="Ask the node's operator for genesis.json, or pass the authority with --ca.",
    )


def _only_one() -> str:
    known = names()
    if len(known) == 1:
        return known[0]
    raise InvalidInput(
        "which profile is not clear",
        found=_known(),
        expected="a name, TILTH_PROFILE, or exactly one profile",
        remedy=f"Choose one: --profile {known[0]}, or: export TILTH_PROFILE={known[0]}"
        if known
        else "Add one: tilth profile add --help",
    )


def _known() -> str:
    known = names()
    return f"profiles {', '.join(known)}" if known else f"no profiles in {home() / 'profiles'}"


def _parse(name: str, file: Path) -> Profile:
    try:
        facts = json.loads(file.read_bytes())
    except ValueError:
        facts = None
    missing = [field for field in FIELDS if not isinstance(facts, dict) or field not in facts]
    if missing:
        raise InvalidInput(
            "the profile's file is damaged",
            found=f"{file} without {', '.join(missing)}",
            expected=f"JSON with {', '.join(FIELDS)}",
            remedy=f"Write it anew with: tilth profile add {name} ...",
        )
    return Profile(
        name=name,
        address=facts["address"],
        organization=facts["organization"],
        key=Path(facts["key"]),
        tls_authority=Path(facts["tls_authority"]),
        genesis=Path(facts["genesis"]),
    )
