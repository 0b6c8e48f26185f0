"""Builds a node from its parts: the only file that knows them all.

`PARTS` lists what runs in a node beside the ledger: makers of a `tilth_node.node.Part`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from tilth_ledger.blocks import Block
from tilth_ledger.cosigning import CosignKeys
from tilth_ledger.dry_run import check_operations
from tilth_ledger.epochs import Epoch, signers_of
from tilth_ledger.errors import Fatal, InvalidInput, TilthError
from tilth_ledger.execution import Executor, State
from tilth_ledger.genesis import Genesis
from tilth_ledger.merkle import Frontier
from tilth_ledger.replica import Replica, Restored
from tilth_node import founding, introductions
from tilth_node.clock import Clock
from tilth_node.config import Config, address
from tilth_node.cosigning import Cosigning
from tilth_node.errors import StorageFailed
from tilth_node.feed import Feed
from tilth_node.folder import Folder
from tilth_node.http import listener as http
from tilth_node.http.answers import Answers as Pages
from tilth_node.joining import Joining
from tilth_node.logs import logger
from tilth_node.membership import Roll
from tilth_node.node import Node, Part, Port, Ports, Register
from tilth_node.notices import Notices
from tilth_node.past import PastBlocks
from tilth_node.proving import Prover
from tilth_node.readers import Turns
from tilth_node.replication import Replication
from tilth_node.rpc.interceptors import Caller, Guard, Tokens
from tilth_node.rpc.ledger_service import Answers, LedgerService
from tilth_node.rpc.peers import Peers, Self
from tilth_node.rpc.places import Places
from tilth_node.rpc.server import CLIENT_OPTIONS, Certificates, ClientsPort, listen
from tilth_node.rpc.status import notices_of, status
from tilth_node.rpc.wire import PeerPort
from tilth_node.scrub_part import Scrub
from tilth_node.scrubbing import check_small
from tilth_node.storage.cosignatures import CosignatureStore
from tilth_node.storage.journal import JournalFile
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.snapshot_file import adopt
from tilth_node.storage.soundness import damaged
from tilth_node.witness_address import WitnessAddress
from tilth_node.witnesses import Witnesses
from tilth_node.worker import part as worker_part
from tilth_protos import ledger_pb2_grpc

PARTS: tuple[Callable[[Node], Part], ...] = (worker_part.make,)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all parts stand on: an open folder, the keys that count, and the ways to others."""

    config: Config
    folder: Folder
    genesis: Genesis
    clock: Clock
    journal: JournalFile
    store: LedgerStore
    feed: Feed
    roll: Roll
    certificates: Certificates
    peers: Peers
    began: bool  # there was a ledger's file before this start
    spoilt: bool  # some of its blocks must come back from others


def build(config: Config) -> Node:
    """A node that is ready to start; its folder is locked by the caller."""
    ground = _ground(config)
    folder, genesis, store, peers = ground.folder, ground.genesis, ground.store, ground.peers
    executor = Executor(genesis, store.rows)
    replication = _replication(ground, executor)
    cosigning = _cosigning(ground, replication)
    joining = Joining(genesis, store, folder, peers, config.snapshot_after)
    past = _past(ground, replication, joining, cosigning)
    _tell_operator(ground, replication)
    prover = Prover(genesis, store, cosigning)
    pages = Pages(genesis, store, cosigning, prover.bundle, prover.proof)
    node = Node(
        config=config,
        folder=folder,
        genesis=genesis,
        signer=lambda: ground.roll.keys.node,
        clock=ground.clock,
        store=store,
        journal=ground.journal,
        feed=ground.feed,
        peers=peers,
        replication=replication,
        cosigning=cosigning,
        witnesses=_witnesses(ground, cosigning, replication),
        joining=joining,
        past=past,
        scrub=_scrub(ground, past, joining, replication),
        ports=Ports(
            partial(_listen_peers, ground),
            lambda services: _listen_clients(
                ground, node, _answers(node, executor, prover), services
            ),
            partial(_listen_http, ground, pages),
        ),
    )
    node.parts.extend(make(node) for make in PARTS)
    return node


def _ground(config: Config) -> _Ground:
    folder, clock = Folder(config.folder), Clock()
    genesis = _genesis(config, folder)
    began = folder.database.exists()
    journal = JournalFile(folder.journal)  # first: one that is missing beside a ledger was lost
    store = _open_ledger(folder, genesis)
    spoilt = check_small(folder, alone=len(genesis.everyone()) == 1)
    roll = _roll(config, folder, genesis, store)
    certificates = Certificates(roll.keys, config.organization, roll.authorities(), clock)
    me = Self(genesis.net, config.organization, clock.random(16).hex(), version("tilth"))
    return _Ground(
        config,
        folder,
        genesis,
        clock,
        journal,
        store,
        Feed(store),
        roll,
        certificates,
        Peers(me, certificates, _addresses(config, roll), clock),
        began,
        spoilt,
    )


def _replication(ground: _Ground, executor: Executor) -> Replication:
    """The replica with what the disk holds of it, and what drives it."""
    genesis, store, journal = ground.genesis, ground.store, ground.journal
    restored = _restored(executor, store, journal, began=ground.began)
    name, vote_key = ground.config.organization, ground.roll.vote_key
    replica = Replica(genesis, name, vote_key, executor, store, restored)
    return Replication(
        genesis,
        replica,
        executor,
        restored.state,
        journal,
        store,
        ground.peers,
        ground.feed,
        ground.clock,
    )


def _genesis(config: Config, folder: Folder) -> Genesis:
    founding.check_name(folder, config.organization)
    return founding.load_genesis(folder)


def _roll(config: Config, folder: Folder, genesis: Genesis, store: LedgerStore) -> Roll:
    introduced = introductions.load(folder, genesis.net)
    return Roll(genesis, config.organization, folder.keys, store, introduced)


def _begin_epoch(roll: Roll, cosigning: Cosigning, peers: Peers, _: Epoch) -> None:
    """Everything that the ledger may say otherwise from now on."""
    roll.refresh()
    cosigning.use(CosignKeys(roll.keys.log, roll.keys.cosign, roll.keys.mldsa))
    peers.admit(roll.keys, roll.authorities())


def _open_ledger(folder: Folder, genesis: Genesis) -> LedgerStore:
    adopt(folder.joining, folder.snapshot, folder.database)
    store = LedgerStore(folder.database)
    try:
        tip = store.tip()
    except StorageFailed:
        raise
    except (InvalidInput, Fatal) as error:
        raise damaged(folder.database, error) from error
    if tip is not None and tip.header.net != genesis.net_bytes:
        raise Fatal(
            "the folder's ledger is of another consortium than its genesis",
            found=tip.header.net.hex(),
            expected=genesis.net,
            remedy=f"{folder.genesis} is damaged: put another member's in its place. Or a rebase"
            " was interrupted: run tilth ledger rebase join again.",
        )
    return store


def _witnesses(ground: _Ground, cosigning: Cosigning, replication: Replication) -> Witnesses:
    """Who asks witnesses outside, and what it tells."""
    config = ground.config
    addresses = [
        WitnessAddress.parse(url, keys, plain_http=config.witness_plain_http)
        for url, keys in config.witnesses.items()
    ]
    every, authority = config.witness_every_seconds, config.witness_authority
    witnesses = Witnesses(addresses, cosigning, ground.store, every, authority)
    witnesses.on_alarm = replication.raise_alarm
    cosigning.publisher.outside = [key for address in addresses for key in address.keys]
    return witnesses


def _scrub(ground: _Ground, past: PastBlocks, joining: Joining, replication: Replication) -> Scrub:
    """Who looks through the folder, and what it tells."""
    scrub = Scrub(ground.folder.path, past.repair, ground.clock)
    scrub.on_alarm = replication.raise_alarm
    scrub.on_damage = joining.begin_anew
    ground.store.on_damage(scrub.fail)
    scrub.first_seconds = 0.0 if ground.spoilt else scrub.first_seconds
    return scrub


def _past(
    ground: _Ground, replication: Replication, joining: Joining, cosigning: Cosigning
) -> PastBlocks:
    """Who fetches what replication lacks, connected to it."""
    past = PastBlocks(ground.genesis, ground.store, ground.peers)
    replication.on_height = joining.told
    replication.on_unlisted = joining.told_by_unlisted
    joining.hold, joining.release = replication.hold, replication.release
    joining.on_fault = past.on_fault = replication.note_fault

    def linked(organization: str) -> None:
        cosigning.connected(organization)
        past.connected(organization)

    replication.on_link = linked
    return past


def _tell_operator(ground: _Ground, replication: Replication) -> None:
    """Alarms and counts of what was refused, for the status of node and folder."""
    replication.raise_alarm("node key", ground.roll.unlisted)
    notices = Notices(ground.folder.notices, lambda: notices_of(replication))
    replication.on_notice = notices.changed
    ground.peers.on_second = lambda name, words: replication.raise_alarm(f"instance {name}", words)


def _answers(node: Node, executor: Executor, prover: Prover) -> Answers:
    """What clients ask that no row holds."""
    return Answers(
        status=lambda: status(node, node.replication.replica),
        check=partial(_check, node, executor),
        prove=prover.bundle,
        take_turn=Turns(node.config.linear_reads, node.clock.monotonic_ms).take,
    )


def _listen_clients(
    ground: _Ground, node: Node, answers: Answers, services: Iterable[Register]
) -> tuple[Port, str]:
    genesis, store, feed, name = ground.genesis, ground.store, ground.feed, node.organization
    tokens = Tokens(genesis.net, name, store.rows, ground.clock, feed)
    places = Places()
    guard = Guard(tokens, places.proven, banner=lambda: node.replication.halted)
    ledger = LedgerService(node.replication, store, feed, answers)
    add = partial(ledger_pb2_grpc.add_LedgerServicer_to_server, ledger)
    shown = ground.certificates.for_clients(places.came)
    server, bound = listen(
        ground.config.client_listen, shown, [add, *services], CLIENT_OPTIONS, [guard]
    )
    places.watch(address(bound)[1])
    return ClientsPort(server, places), bound


def _listen_peers(ground: _Ground) -> tuple[Port, str] | None:
    if not ground.config.peer_listen:
        return None
    certificates, accept = ground.certificates.for_peers, ground.peers.accept
    port = PeerPort(ground.config.peer_listen, certificates, accept)
    return port, port.address


def _listen_http(ground: _Ground, pages: Pages) -> tuple[Port, str] | None:
    at = ground.config.http_listen
    return http.listen(at, pages.answer, ground.clock) if at else None


def _cosigning(ground: _Ground, replication: Replication) -> Cosigning:
    """Who cosigns what replication makes final, connected to it."""
    genesis, store, roll, peers = ground.genesis, ground.store, ground.roll, ground.peers
    keys = roll.keys
    cosigning = Cosigning(
        genesis,
        ground.config.organization,
        CosignKeys(keys.log, keys.cosign, keys.mldsa),
        lambda epoch: signers_of(store.rows, epoch, genesis),
        store,
        CosignatureStore(ground.folder.cosignatures),
        peers,
        ground.clock,
    )
    cosigning.on_alarm = replication.raise_alarm
    replication.on_final = lambda final: cosigning.final([each.block for each in final])
    replication.on_cosignatures = cosigning.received
    replication.on_epoch = partial(_begin_epoch, roll, cosigning, peers)
    return cosigning


def _load(executor: Executor, store: LedgerStore) -> State:
    """The state of the last final block; an empty store gets the genesis rows first."""
    tip = store.tip()
    if tip is not None:
        return executor.load(tip.frontier, tip.accumulator, tip.header.time_ms)
    first = executor.genesis_state()
    if not store.seeded:
        rows = {key: value for key, value in first.changes.items() if value is not None}
        store.seed(rows, first.accumulator)
    return executor.load(Frontier(), first.accumulator, 0)


def _restored(
    executor: Executor, store: LedgerStore, journal: JournalFile, *, began: bool
) -> Restored:
    """What the disk holds. `began`: this folder had a ledger's file before this start."""
    if journal.cut_bytes:
        words = "damaged: votes may be lost" if journal.damaged else "torn by a crash"
        text = f"the end of {journal.path} was {words}; it was cut off"
        logger("journal").warning(text, bytes=journal.cut_bytes)
    # A crash of the very first start leaves an empty journal, or neither file: see `_ground`.
    doubtful = journal.damaged or (journal.missing and began)
    tip = store.tip()
    state = _load(executor, store)
    if tip is None:
        return Restored(state, journal=journal.records, doubtful=doubtful)
    block = store.block(tip.header.height)
    if block is None:
        raise Fatal(
            "the ledger's last block cannot be read",
            found=f"height {tip.header.height}",
            remedy="Keep the folder; restore its ledger from a copy or another node.",
        )
    start = store.epoch_start()
    final = Block.decode(block)
    return Restored(state, final, tip.certificate, journal.records, start, doubtful)


def _addresses(config: Config, roll: Roll) -> Callable[[str], str]:
    """Where an organization's node is dialled: the operator's word comes first."""
    return lambda organization: config.peers.get(organization) or roll.address(organization)


def _check(
    node: Node, executor: Executor, caller: Caller, operations: list[dict[str, object]]
) -> list[TilthError]:
    state = _load(executor, node.store)
    now = max(node.clock.wall_ms(), state.time_ms + 1)
    return check_operations(executor, state, caller.key_id, caller.organization, operations, now)
