"""Making a node's folder, a consortium's genesis, and joining the one to the other.

- A site's keys are born in its own folder and stay there: only the member file is handed over.
- A folder joins once, and only a genesis that lists its very keys; everybody confirms the same
  hash.
- Nothing that exists is written over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import (
    Genesis,
    Organization,
    check_names,
    member_file,
    parse_member_file,
)
from tilth_ledger.limits import Limits
from tilth_node import config, introductions, keystore, tls
from tilth_node.clock import Clock
from tilth_node.config import Config
from tilth_node.folder import Folder, write_file
from tilth_node.storage import journal


@dataclass(frozen=True, slots=True)
class Site:
    """What an operator says when a node is made."""

    organization: str
    name: str
    host: str = "127.0.0.1"
    client_port: int = 0  # 0: any free port, at each start
    peer_port: int | None = 0  # None: accept no connection from peers
    peer_address: str | None = None  # what others dial, when it is not host:port
    client_address: str | None = None
    aggregates: bool = False
    data_roots: tuple[Path, ...] = ()
    peers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def init(path: Path, site: Site, clock: Clock) -> Organization:
    """Make the folder of a new node with its keys, settings and member file."""
    folder = Folder(path)
    if (path / config.FILE).exists() or folder.keys.exists():
        raise InvalidInput(
            f"{path} holds a node already",
            remedy="choose an empty folder; keys are never written over",
        )
    check_names(site.organization, site.name)
    path.mkdir(parents=True, exist_ok=True)
    folder.close_to_others()
    authority = tls.new_authority(site.organization, clock.utc())
    keystore.create(folder.keys, clock, authority)
    journal.begin(folder.journal)
    content = _member_file(folder, site)
    write_file(folder.member, content)
    # The settings come last: a crash before leaves a folder that is no node yet.
    write_file(path / config.FILE, config.write(_settings(path, site)).encode())
    return parse_member_file(content)


def new_network(
    name: str,
    files: Sequence[Path],
    others: Sequence[Path],
    *,
    q: int | None,
    k: int | None,
    public: bool = False,
) -> Genesis:
    """The genesis of the sites whose member files these are, in this order: those that vote, and
    those that follow."""
    members = [_read_member(path) for path in files]
    followers = [_read_member(path) for path in others]
    _check_addresses([*members, *followers])
    limits = {field: getattr(Limits(), field) for field in Limits.__dataclass_fields__}
    return Genesis.write(
        name,
        members,
        followers,
        limits=limits,
        q=q,
        k=k,
        publication="public" if public else "organizations",
    )


def join(
    path: Path, genesis_file: Path, *, newcomer: bool = False, peers: Path | None = None
) -> Genesis:
    """Bind the node in `path` to a consortium that lists it, or, of a `newcomer`, whose members
    admit it or will; `peers` is a file that introduces the others' nodes."""
    settings = config.load(path)
    folder = Folder(path)
    genesis = _read_genesis(genesis_file)
    newly = parse_member_file(_read(folder.member)) if newcomer else None
    mine = newly or check_listed(genesis, folder)
    if folder.genesis.exists() and folder.genesis.read_bytes() != genesis.bytes:
        raise InvalidInput(
            f"{path} belongs to another consortium",
            found=Genesis.parse(folder.genesis.read_bytes()).net,
            expected=genesis.net,
            remedy="make a new folder: one node serves one consortium",
        )
    _check_name(path, mine, settings.organization)
    introduced = None if peers is None else _read(peers)
    if introduced is not None:
        introductions.read(introduced, genesis.net)
        write_file(folder.peers, introduced)
    write_file(folder.genesis, genesis.bytes)
    return genesis


def check_name(folder: Folder, organization: str) -> None:
    """Raise InvalidInput when the folder was made for another organization than its settings say.
    A member file that makes no sense says nothing: it was for others."""
    try:
        mine = parse_member_file(_read(folder.member))
    except InvalidInput:
        return
    _check_name(folder.path, mine, organization)


def _check_name(path: Path, mine: Organization, organization: str) -> None:
    if mine.organization != organization:
        raise InvalidInput(
            f"{path} is torn: its member file names another organization than {config.FILE}",
            found=organization,
            expected=mine.organization,
            remedy=f"Correct {config.FILE}; or restore the folder from a copy, or begin in a new"
            " one: tilth node init FOLDER",
        )


def load_genesis(folder: Folder) -> Genesis:
    """The genesis that the folder joined. Raises InvalidInput with the next step."""
    if not folder.genesis.exists():
        raise InvalidInput(
            f"{folder.path} has not joined a consortium",
            found="no genesis.json",
            remedy=f"tilth node join {folder.path} GENESIS",
        )
    try:
        return Genesis.parse(folder.genesis.read_bytes())
    except InvalidInput as error:
        raise InvalidInput(
            f"{folder.genesis} is damaged: {error.message}",
            found=error.found,
            expected=error.expected,
            remedy="Put another member's genesis.json in its place: all have the same bytes.",
        ) from error


def _member_file(folder: Folder, site: Site) -> bytes:
    keys = keystore.load_newest(folder.keys)
    return member_file(
        site.organization,
        site.name,
        keystore.newest_signers(folder.keys),
        keys.authority.decode("ascii"),
        aggregates=site.aggregates,
        peer_address=site.peer_address or _announced(site.host, site.peer_port),
        client_address=site.client_address or _announced(site.host, site.client_port),
        mldsa=keys.mldsa,
    )


def _announced(host: str, port: int | None) -> str | None:
    """Where others find a port; None when only the running node knows."""
    return f"{host}:{port}" if port and host not in ("0.0.0.0", "::") else None  # noqa: S104


def _settings(path: Path, site: Site) -> Config:
    return Config(
        folder=path,
        organization=site.organization,
        client_listen=f"{site.host}:{site.client_port}",
        peer_listen="" if site.peer_port is None else f"{site.host}:{site.peer_port}",
        peers=site.peers,
        data_roots=tuple(root.absolute() for root in site.data_roots),
    )


def check_listed(genesis: Genesis, folder: Folder) -> Organization:
    """The organization of a folder, which a genesis must list with its very keys."""
    mine = parse_member_file(_read(folder.member))
    for listed in genesis.everyone():
        if listed.organization == mine.organization:
            if _held(listed) != _held(mine):
                raise InvalidInput(
                    f"the genesis lists {mine.organization} with other keys",
                    expected="the keys in this folder's member.json",
                    remedy="hand over the member.json of this folder and make the genesis again",
                )
            return mine
    raise InvalidInput(
        f"the genesis does not list {mine.organization}",
        found=", ".join(each.organization for each in genesis.everyone()),
        remedy="hand over this folder's member.json and make the genesis again; or, if the ledger"
        " runs already, let its members admit it and join with --newcomer",
    )


def _held(party: Organization) -> tuple[object, ...]:
    return party.keys, party.cosign_mldsa, party.tls_authority


def _check_addresses(parties: Sequence[Organization]) -> None:
    """Two nodes at one address never meet, and the genesis is for ever."""
    at: dict[str, str] = {}
    for each in parties:
        if each.peer_address is None:
            continue
        other = at.setdefault(each.peer_address, each.organization)
        if other != each.organization:
            raise InvalidInput(
                f"{other} and {each.organization} state the same address",
                found=each.peer_address,
                expected="where the other sites reach each of them",
                remedy="make the folders again: tilth node init FOLDER --organization NAME"
                " --address HOST",
            )


def _read_genesis(path: Path) -> Genesis:
    data = _read(path)
    try:
        return Genesis.parse(data)
    except InvalidInput as error:
        raise InvalidInput(
            f"{path} is no valid genesis file: {error.message}",
            found=error.found,
            expected=error.expected,
            remedy="Take the file that `tilth network new` wrote: it is the same for all.",
        ) from error


def _read_member(path: Path) -> Organization:
    try:
        return parse_member_file(_read(path))
    except InvalidInput as error:
        raise InvalidInput(
            f"{path} is no valid member file: {error.message}",
            found=error.found,
            expected=error.expected,
            remedy=error.remedy or "ask its site to send it again",
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"cannot read {path}",
            found=error.strerror,
            remedy="Check the path, and who may read it.",
        ) from error
