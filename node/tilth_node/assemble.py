"""Builds a node from its parts: the only file that knows them all.

`PARTS` lists what runs in a node beside the ledger: makers of a `tilth_node.node.Part`.
"""

from collections.abc import Callable, Iterable
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
from tilth_node.rpc.interceptors import Caller, Guard, Proven, Tokens
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


def build(config: Config) -> Node:
    """A node that is ready to start; its folder is locked by the caller."""
    folder, clock = Folder(config.folder), Clock()
    genesis = _genesis(config, folder)
    began, journal, store, spoilt = _opened(folder, genesis)
    roll = _roll(config, folder, genesis, store)
    certificates = Certificates(roll.keys, config.organization, roll.authorities(), clock)
    executor = Executor(genesis, store.rows)
    feed = Feed(store)
    me = Self(genesis.net, config.organization, clock.random(16).hex(), version("tilth"))
    peers = Peers(me, certificates, _addresses(config, roll), clock)
    restored = _restored(executor, store, journal, began=began)
    replica = Replica(genesis, config.organization, roll.vote_key, executor, store, restored)
    replication = Replication(
        genesis, replica, executor, restored.state, journal, store, peers, feed, clock
    )
    cosigning = _cosigning(config, folder, genesis, roll, replication, store, peers, clock)
    joining = Joining(genesis, store, folder, peers, config.snapshot_after)
    past = _past(genesis, replication, joining, cosigning, store, peers)
    _tell_operator(folder, roll, replication, peers)
    prover = Prover(genesis, store, cosigning)
    tokens = Tokens(genesis.net, config.organization, store.rows, clock, feed)

    def listen_clients(services: Iterable[Register]) -> tuple[Port, str]:
        answers = Answers(
            status=lambda: status(node, replica),
            check=lambda caller, operations: _check(node, executor, caller, operations),
            prove=prover.bundle,
            take_turn=Turns(config.linear_reads, clock.monotonic_ms).take,
        )
        ledger = LedgerService(replication, store, feed, answers)
        add = partial(ledger_pb2_grpc.add_LedgerServicer_to_server, ledger)
        guard = partial(Guard, tokens, banner=lambda: replication.halted)
        return _listen_clients(config, certificates, guard, [add, *services])

    pages = Pages(genesis, store, cosigning, prover.bundle, prover.proof)
    ports = Ports(
        partial(_listen_peers, config, certificates, peers),
        listen_clients,
        partial(_listen_http, config, pages, clock),
    )
    node = Node(
        config=config,
        folder=folder,
        genesis=genesis,
        signer=lambda: roll.keys.node,
        clock=clock,
        store=store,
        journal=journal,
        feed=feed,
        peers=peers,
        replication=replication,
        cosigning=cosigning,
        witnesses=_witnesses(config, cosigning, store, replication),
        joining=joining,
        past=past,
        scrub=_scrub(folder, store, past, joining, replication, clock, at_once=spoilt),
        ports=ports,
    )
    node.parts.extend(make(node) for make in PARTS)
    return node


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


def _opened(folder: Folder, genesis: Genesis) -> tuple[bool, JournalFile, LedgerStore, bool]:
    """Whether there was a ledger's file before this start, the journal, the ledger, and whether
    some of its blocks must come back from others."""
    began = folder.database.exists()
    journal = JournalFile(folder.journal)  # first: one that is missing beside a ledger was lost
    store = _open_ledger(folder, genesis)
    return began, journal, store, check_small(folder, alone=len(genesis.everyone()) == 1)


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


def _witnesses(
    config: Config, cosigning: Cosigning, store: LedgerStore, replication: Replication
) -> Witnesses:
    """Who asks witnesses outside, and what it tells."""
    addresses = [
        WitnessAddress.parse(url, keys, plain_http=config.witness_plain_http)
        for url, keys in config.witnesses.items()
    ]
    every, authority = config.witness_every_seconds, config.witness_authority
    witnesses = Witnesses(addresses, cosigning, store, every, authority)
    witnesses.on_alarm = replication.raise_alarm
    cosigning.publisher.outside = [key for address in addresses for key in address.keys]
    return witnesses


def _scrub(
    folder: Folder,
    store: LedgerStore,
    past: PastBlocks,
    joining: Joining,
    replication: Replication,
    clock: Clock,
    *,
    at_once: bool,
) -> Scrub:
    """Who looks through the folder, and what it tells."""
    scrub = Scrub(folder.path, past.repair, clock)
    scrub.on_alarm = replication.raise_alarm
    scrub.on_damage = joining.begin_anew
    store.on_damage(scrub.fail)
    scrub.first_seconds = 0.0 if at_once else scrub.first_seconds
    return scrub


def _past(
    genesis: Genesis,
    replication: Replication,
    joining: Joining,
    cosigning: Cosigning,
    store: LedgerStore,
    peers: Peers,
) -> PastBlocks:
    """Who fetches what replication lacks, connected to it."""
    past = PastBlocks(genesis, store, peers)
    replication.on_height = joining.told
    replication.on_unlisted = joining.told_by_unlisted
    joining.hold, joining.release = replication.hold, replication.release
    joining.on_fault = past.on_fault = replication.note_fault

    def linked(organization: str) -> None:
        cosigning.connected(organization)
        past.connected(organization)

    replication.on_link = linked
    return past


def _tell_operator(folder: Folder, roll: Roll, replication: Replication, peers: Peers) -> None:
    """Alarms and counts of what was refused, for the status of node and folder."""
    replication.raise_alarm("node key", roll.unlisted)
    notices = Notices(folder.notices, lambda: notices_of(replication))
    replication.on_notice = notices.changed
    peers.on_second = lambda name, words: replication.raise_alarm(f"instance {name}", words)


def _listen_clients(
    config: Config,
    certificates: Certificates,
    guard: Callable[[Proven], Guard],
    services: Iterable[Register],
) -> tuple[Port, str]:
    places = Places()
    shown = certificates.for_clients(places.came)
    guards = [guard(places.proven)]
    server, bound = listen(config.client_listen, shown, services, CLIENT_OPTIONS, guards)
    places.watch(address(bound)[1])
    return ClientsPort(server, places), bound


def _listen_peers(
    config: Config, certificates: Certificates, peers: Peers
) -> tuple[Port, str] | None:
    if not config.peer_listen:
        return None
    port = PeerPort(config.peer_listen, certificates.for_peers, peers.accept)
    return port, port.address


def _listen_http(config: Config, pages: Pages, clock: Clock) -> tuple[Port, str] | None:
    return http.listen(config.http_listen, pages.answer, clock) if config.http_listen else None


def _cosigning(
    config: Config,
    folder: Folder,
    genesis: Genesis,
    roll: Roll,
    replication: Replication,
    store: LedgerStore,
    peers: Peers,
    clock: Clock,
) -> Cosigning:
    """Who cosigns what replication makes final, connected to it."""
    keys = roll.keys
    cosigning = Cosigning(
        genesis,
        config.organization,
        CosignKeys(keys.log, keys.cosign, keys.mldsa),
        lambda epoch: signers_of(store.rows, epoch, genesis),
        store,
        CosignatureStore(folder.cosignatures),
        peers,
        clock,
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
    # A crash of the very first start leaves an empty journal, or neither file: see `build`.
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
