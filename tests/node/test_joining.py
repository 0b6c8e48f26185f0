"""Snapshots between stores of one ledger: what a joiner takes, what it refuses, and from whom; and
the past that it fetches afterwards."""

import asyncio
import struct
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from audited_chain import Chain
from test_ledger_store import Changes, certificate_of
from test_ledger_store import chain as block_chain

from tilth_ledger.errors import Unavailable
from tilth_ledger.history import Stretch
from tilth_ledger.lthash import LtHash
from tilth_ledger.snapshot_rows import Part, Place
from tilth_ledger.snapshots import Offer
from tilth_node import auditing, joining, past
from tilth_node.errors import StorageFailed
from tilth_node.folder import Folder
from tilth_node.joining import Joining
from tilth_node.past import PastBlocks
from tilth_node.rpc.frames import framed, frames
from tilth_node.storage.ledger_store import LedgerStore
from tilth_node.storage.snapshot_file import SnapshotFile, adopt

BLOCKS = 30
FAR = 10**6


@dataclass
class Site:
    """A node's folder, its store, and both parts, connected to the others in memory."""

    name: str
    folder: Folder
    store: LedgerStore
    links: dict = field(default_factory=dict)
    handlers: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    held: list = field(default_factory=list)

    async def request(self, organization, method, body):
        async for chunk in self.links[organization].handlers[method](self.name, body):
            yield chunk

    def serve(self, method, handler):
        self.handlers[method] = handler

    def parts(self, genesis):
        self.joining = Joining(genesis, self.store, self.folder, self, after=3)
        self.joining.on_fault = lambda name, reason: self.faults.append((name, reason))
        self.joining.hold = self.held.append
        self.joining.release = lambda: self.held.append("")
        self.past = PastBlocks(genesis, self.store, self)
        self.past.on_fault = lambda name, reason: self.faults.append((name, reason))


@pytest.fixture(scope="module")
def chain():
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for _ in range(BLOCKS):
        chain.samples(dataset, "train", 2)
    return chain


def founded(chain, path: Path, blocks: int) -> Site:
    path.mkdir()
    folder = Folder(path)
    folder.genesis.write_bytes(chain.genesis.bytes)
    store = LedgerStore(folder.database)
    first = chain.proposer[0].genesis_state()
    store.seed(first.changes, first.accumulator)
    for (block, certificate), state in list(zip(chain.blocks, chain.states, strict=True))[:blocks]:
        store.apply([(block, state)], certificate)
    site = Site(path.name, folder, store)
    site.parts(chain.genesis)
    return site


@pytest.fixture
def sites(chain, tmp_path):
    """A newcomer, and two others that hold everything."""
    all_sites = [
        founded(chain, tmp_path / name, n) for name, n in (("new", 0), ("b", 99), ("c", 99))
    ]
    for site in all_sites:
        site.links = {other.name: other for other in all_sites if other is not site}
    yield all_sites
    for site in all_sites:
        site.store.close()


def joined(site, *tellers, height=FAR):
    """Whether the newcomer ends with a snapshot when these tell that they are ahead."""

    async def run():
        task = asyncio.create_task(site.joining.run())
        for name in tellers:
            site.joining.told(name, height, 0)
        ready = asyncio.create_task(site.joining.ready.wait())
        try:
            async with asyncio.timeout(100):
                while not ready.done() and site.joining.joins:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            return site.joining.ready.is_set()
        finally:
            ready.cancel()
            task.cancel()

    return asyncio.run(run())


def restarted(site, chain):
    """The site again, as the next start finds it."""
    site.store.close()
    assert adopt(site.folder.joining, site.folder.snapshot, site.folder.database)
    site.store = LedgerStore(site.folder.database)
    site.parts(chain.genesis)
    return site


def fetch_the_past(site):
    async def run():
        task = asyncio.create_task(site.past.run())
        async with asyncio.timeout(100):
            while site.store.history is not None and not site.faults:  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())


def altering(site, method, change):
    """Make a site answer with frames that `change(number, frame)` gives: None leaves one out."""
    honest = site.handlers[method]

    async def lie(organization, body):
        number = 0
        async for frame in frames(honest(organization, body), [1 << 30]):
            for each in change(number, frame):
                yield framed(each)
            number += 1

    site.handlers[method] = lie


def same(a, b):
    mine, theirs = (dict(each.store.rows.scan_bytes("")) for each in (a, b))
    assert mine == theirs
    assert a.store.tip() == b.store.tip()


def test_a_newcomer_holds_all_rows_and_the_tip_without_what_came_before(sites, chain):
    new, b, _ = sites
    assert joined(new, "b", "c")
    assert new.held[0].startswith("this node is")
    restarted(new, chain)
    same(new, b)
    height = len(chain.blocks)
    assert new.store.history == (height, chain.blocks[-2][0].header.size)
    assert new.store.block(height) == b.store.block(height)
    assert new.store.block(height - 1) is None


def test_what_is_asked_of_the_missing_past_is_unavailable_and_never_wrong(sites, chain):
    new = sites[0]
    assert joined(new, "b")
    restarted(new, chain)
    for ask in (
        lambda: new.store.leaves(0, 10),
        lambda: new.store.node(0, 1),
        lambda: new.store.nodes(0, 0, 8),
        lambda: new.store.size_with(2),
    ):
        with pytest.raises(Unavailable, match="not here yet"):
            ask()


def test_the_past_comes_in_stretches_and_the_whole_ledger_audits_clean(sites, chain, monkeypatch):
    monkeypatch.setattr("tilth_node.storage.past_blocks.STRETCH_BLOCKS", 4)
    new, b, _ = sites
    assert joined(new, "c")
    restarted(new, chain)
    fetch_the_past(new)
    assert (new.store.history, new.faults) == (None, [])
    size = b.store.size
    assert new.store.leaves(0, size) == b.store.leaves(0, size)
    assert new.store.nodes(0, 0, size) == b.store.nodes(0, 0, size)
    new.store.close()
    report = auditing.audit(new.folder.path)
    assert report.clean, report.findings
    assert report.height == len(chain.blocks)
    new.store = LedgerStore(new.folder.database)


def test_an_audit_of_a_folder_without_its_past_says_so(sites, chain):
    new = sites[0]
    assert joined(new, "b")
    restarted(new, chain)
    with pytest.raises(Exception, match="does not hold the whole ledger yet"):
        auditing.audit(new.folder.path)


def first_part(change):
    """A lie about the first part of rows."""

    def lie(number, frame):
        part = Part.decode(frame) if number == 1 else None
        return [change(part).encode()] if part and part.rows else [frame]

    lie.__name__ = change.__name__
    return lie


@first_part
def first_value_changed(part):
    return replace(part, rows=((part.rows[0][0], b'{"n":1}'), *part.rows[1:]))


@first_part
def a_row_left_out(part):
    return replace(part, rows=part.rows[1:])


@first_part
def a_row_twice(part):
    return replace(part, rows=(part.rows[0], *part.rows))


@first_part
def rows_in_disorder(part):
    return replace(part, rows=part.rows[::-1])


@first_part
def a_change_of_what_was_not_given(part):
    return replace(part, changed=(("zzz", b"{}"),))


@first_part
def an_older_moment(part):
    return replace(part, size=part.size - 1)


@first_part
def a_moment_to_come(part):
    return replace(part, size=part.size + 1)


@first_part
def an_end_too_early(part):
    return replace(part, rows=part.rows[:20], ended=True)


def endless_rows(number, frame):
    if number == 0:
        return [frame]
    return [replace(Part.decode(frame), ended=False).encode()] * 10_000


def an_end_that_never_comes(number, frame):
    return [frame] if number == 0 else [replace(Part.decode(frame), ended=False).encode()]


@first_part
def an_unknown_row(part):
    return replace(part, rows=(*part.rows, ("zzz/new", b"{}")))


def nothing(number, frame):
    return []


def no_rows(number, frame):
    return [frame] if number == 0 else []


def noise(number, frame):
    return [b"\xff" * 40]


def a_forged_state(number, frame):
    if number:
        return [frame]
    offer = Offer.decode(frame)
    header = replace(offer.tip.block.header, state=LtHash().digest())
    tip = replace(offer.tip, block=replace(offer.tip.block, header=header))
    return [replace(offer, milestones=(tip,)).encode()]


def another_tree_below(number, frame):
    if number:
        return [frame]
    offer = Offer.decode(frame)
    peaks = tuple(bytes(32) for _ in offer.tip.before.peaks)
    tip = replace(offer.tip, before=replace(offer.tip.before, peaks=peaks))
    return [replace(offer, milestones=(tip,)).encode()]


@pytest.mark.parametrize(
    "lie",
    [
        first_value_changed,
        a_row_left_out,
        a_row_twice,
        rows_in_disorder,
        a_change_of_what_was_not_given,
        a_moment_to_come,
        an_end_too_early,
        endless_rows,
        an_unknown_row,
        nothing,
        noise,
        a_forged_state,
        another_tree_below,
    ],
)
def test_a_liar_is_found_and_counted_and_another_is_asked(sites, chain, lie):
    new, b, c = sites
    altering(c, "snapshot", lie)
    new.joining.told("c", FAR + 1, 0)  # the liar is asked first
    assert joined(new, "b", "c")
    assert [name for name, _ in new.faults] == ["c"]
    restarted(new, chain)
    same(new, b)


def test_when_everybody_lies_the_node_goes_on_as_before_and_asks_no_more(sites, chain):
    new, b, c = sites
    altering(b, "snapshot", first_value_changed)
    altering(c, "snapshot", an_unknown_row)
    assert not joined(new, "b", "c")
    assert new.held[-1] == ""
    assert {name for name, _ in new.faults} == {"b", "c"}
    assert not new.folder.snapshot.exists()
    new.joining.told("b", FAR, 0)
    assert not new.joining.joins


def test_a_snapshot_older_than_the_ledger_is_refused(chain, tmp_path):
    ahead, behind = founded(chain, tmp_path / "ahead", 20), founded(chain, tmp_path / "behind", 10)
    ahead.links = {"behind": behind}
    assert not joined(ahead, "behind")
    assert ahead.faults == [("behind", "snapshot: a snapshot that is older than this ledger")]
    ahead.store.close()
    behind.store.close()


async def never(organization, body):
    await asyncio.Event().wait()
    yield b""


def test_who_only_says_that_it_is_far_ahead_holds_up_nobody_for_long(sites, monkeypatch):
    monkeypatch.setattr(joining, "OFFER_SECONDS", 0.01)
    new, _, c = sites
    c.handlers["snapshot"] = never
    assert not joined(new, "c")
    assert new.held[-1] == ""
    new.joining.told("c", FAR, 0)
    assert not new.joining.joins  # it had its three tries


def test_a_ledger_that_is_a_few_blocks_ahead_holds_up_nobody(chain, tmp_path):
    ahead, behind = founded(chain, tmp_path / "ahead", 12), founded(chain, tmp_path / "behind", 10)
    behind.links = {"ahead": ahead}
    assert not joined(behind, "ahead")  # which said that it is far ahead
    assert behind.held[-1] == ""
    ahead.store.close()
    behind.store.close()


def test_a_few_blocks_behind_are_no_reason(sites):
    new = sites[0]
    new.joining.told("b", 3, 0)
    assert not new.joining.joins
    new.joining.told("b", 4, 0)
    assert new.joining.joins


def breaking_off(site, after, calls):
    """Make a site end its first answer after so many frames; `calls` gets each place asked for."""
    honest = site.handlers["snapshot"]

    async def broken(organization, body):
        calls.append(Place.decode(body))
        async with aclosing(honest(organization, body)) as answer:
            number = 0
            async for chunk in answer:
                yield chunk
                number += 1
                if len(calls) == 1 and number == after:
                    raise Unavailable("the connection ended")

    site.handlers["snapshot"] = broken


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("tilth_node.joining.PART_ROWS", 7)


@pytest.mark.usefixtures("short")
def test_one_who_breaks_off_is_asked_for_the_rest_only(sites, chain):
    new, b, _ = sites
    del new.links["c"]
    calls = []
    breaking_off(b, 6, calls)
    assert joined(new, "b")
    assert [bool(place.key) for place in calls] == [False, True, True]
    keys = [key for key, _ in b.store.rows.scan_bytes("")]
    assert calls[1].key == keys[5 * 7 - 1]
    assert new.faults == []
    restarted(new, chain)
    same(new, b)


@pytest.mark.usefixtures("short")
def test_another_peer_goes_on_where_the_first_broke_off_though_the_ledger_has_grown(
    chain, tmp_path
):
    new, b, c = (founded(chain, tmp_path / n, at) for n, at in (("new", 0), ("b", 20), ("c", 99)))
    new.links = {"b": b, "c": c}
    calls = []
    breaking_off(b, 9, calls)
    new.joining.told("b", FAR + 1, 0)
    later = []
    breaking_off(c, 10_000, later)
    b.links.clear()
    honest = new.joining._next
    new.joining._next = lambda: "b" if not calls else honest() and "c"
    assert joined(new, "b", "c")
    assert later[0].key
    assert later[0].size == b.store.size < c.store.size
    assert new.faults == []
    restarted(new, chain)
    same(new, c)
    for site in (new, b, c):
        site.store.close()


@pytest.mark.usefixtures("short")
def test_a_process_that_was_killed_goes_on_with_what_it_had(sites, chain):
    new, b, _ = sites
    del new.links["c"]
    calls = []
    breaking_off(b, 6, calls)
    new.joining._tries["b"] = 2  # the next failure is the last of this process
    draft = SnapshotFile(new.folder.joining, new.folder.snapshot, chain.genesis.net_bytes)
    taken = draft.taken
    for part in list(b.joining._parts(Place()))[:5]:
        taken = taken.after(part, draft.value_of)
        draft.write(part, taken, "b")
    draft.close()
    new.parts(chain.genesis)
    told = []
    honest = new.request

    def request(*ask):
        told.append(new.joining.rows)
        return honest(*ask)

    new.request = request
    assert joined(new, "b")
    assert told[0] == taken.rows
    assert new.joining.rows == 0
    assert calls[0] == taken.place
    restarted(new, chain)
    same(new, b)


def test_what_another_start_of_the_machine_left_is_not_believed(sites, chain, monkeypatch):
    new, b, _ = sites
    draft = SnapshotFile(new.folder.joining, new.folder.snapshot, chain.genesis.net_bytes)
    part = next(b.joining._parts(Place()))
    draft.write(part, draft.taken.after(part, draft.value_of), "b")
    draft.close()
    monkeypatch.setattr("tilth_node.storage.snapshot_file._boot", lambda: "another")
    draft = SnapshotFile(new.folder.joining, new.folder.snapshot, chain.genesis.net_bytes)
    assert (draft.taken.rows, draft.givers) == (0, frozenset())
    draft.close()
    new.folder.joining.write_bytes(b"no database at all, but as long as the head of one" * 9)
    draft = SnapshotFile(new.folder.joining, new.folder.snapshot, chain.genesis.net_bytes)
    assert draft.taken.rows == 0
    draft.close()


@pytest.mark.usefixtures("short")
def test_rows_of_two_that_do_not_add_up_name_nobody_until_each_is_asked_alone(sites, chain):
    new, b, c = sites
    altering(c, "snapshot", first_value_changed)
    calls = []
    breaking_off(c, 4, calls)
    new.joining.told("c", FAR + 1, 0)  # the liar is asked first, and breaks off
    asked = []
    honest = new.joining._next

    def next_one():
        asked.append("c" if not asked or asked[1:] == ["b"] else honest())
        if len(asked) == 2:
            asked[1] = "b"
        return asked[-1]

    new.joining._next = next_one
    assert joined(new, "b", "c")
    assert asked[:3] == ["c", "b", "c"]  # both gave, nobody is named; then each alone
    assert [name for name, _ in new.faults] == ["c"]
    restarted(new, chain)
    same(new, b)


@pytest.mark.usefixtures("short")
def test_what_changes_behind_the_taker_comes_again_and_what_goes_goes(sites, chain, monkeypatch):
    """The giver's rows change between any two parts; the taker ends with those of the last."""
    _, b, _ = sites
    draft = SnapshotFile(b.folder.path / "x", b.folder.path / "y", chain.genesis.net_bytes)
    state = {f"k/{n:03}": b"{}" for n in range(60)}
    store = LedgerStore(b.folder.path / "z.db")
    store.seed(state, bytes(2048))
    [(block, _)] = block_chain((b"first",))
    store.apply([(block, Changes({"k/0": b"{}"}))], certificate_of(block))
    giver = Joining(chain.genesis, store, b.folder, b, after=3)
    parts = giver._parts(Place())
    blocks = iter(block_chain(*((b"leaf %d" % n,) for n in range(40)))[1:])
    taken = draft.taken
    for number, part in enumerate(parts):
        taken = taken.after(Part.decode(part.encode()), draft.value_of)
        draft.write(part, taken, "b")
        block, _ = next(blocks)
        changes = {f"k/{number:03}": b'{"n":1}', f"k/{number * 5:03}": None, f"a/{number}": b"{}"}
        store.apply([(block, Changes(changes))], certificate_of(block))
    [last] = giver._parts(taken.place)
    taken = taken.after(last, draft.value_of)
    draft.write(last, taken, "b")
    rows = dict(store.rows.scan_bytes(""))
    assert {key: draft.value_of(key) for key in rows} == rows
    assert taken.rows == len(rows)
    assert taken.sum == LtHash().replace((), rows.items())
    draft.close()
    store.close()


def test_a_taker_of_long_ago_is_told_to_begin_anew(sites, chain):
    b = sites[1]
    b.store.rows._damaged = b.store.size  # what changed before is not known
    part = next(b.joining._parts(Place(3, "entry/")))
    assert part.anew
    assert part.rows[0][0] == next(b.store.rows.scan_bytes(""))[0]
    draft = SnapshotFile(b.folder.path / "x", b.folder.path / "y", chain.genesis.net_bytes)
    old = Part(3, (), (("a/1", b"{}"),))
    draft.write(old, draft.taken.after(old, draft.value_of), "c")
    draft.write(part, draft.taken.after(part, draft.value_of), "b")
    assert draft.value_of("a/1") is None
    assert draft.givers == {"b"}
    draft.close()


def test_a_crash_before_the_snapshot_took_its_place_is_finished_by_the_next_start(sites, chain):
    new, b, _ = sites
    assert joined(new, "b")
    new.store.close()
    kept = new.folder.database.read_bytes()
    log = new.folder.path / "ledger.db-wal"
    log.write_bytes(b"an old log that must not reach the new file")
    whole = new.folder.snapshot.read_bytes()
    assert adopt(new.folder.joining, new.folder.snapshot, new.folder.database)
    new.folder.snapshot.write_bytes(whole)  # as if the rename had not been done yet
    new.folder.database.write_bytes(kept)
    restarted(new, chain)
    same(new, b)


def test_a_node_without_its_past_gives_no_snapshot(sites, chain):
    new, b, _ = sites
    assert joined(new, "b")
    restarted(new, chain)
    new.links = {}
    b.links = {"new": new}
    assert not joined(b, "new")
    assert b.faults == []


def test_who_had_no_past_to_give_is_asked_again_when_it_connects_or_later(sites, chain):
    new, b, _ = sites
    assert joined(new, "b")
    restarted(new, chain)
    honest, refusals = b.handlers["past"], []

    async def at_first_nothing(organization, body):
        if len(refusals) < 2 * past.TRIES:
            refusals.append(organization)
            raise Unavailable("these blocks are not here")
        async for chunk in honest(organization, body):
            yield chunk

    b.handlers["past"] = at_first_nothing
    new.links, new.past.again_seconds = {"b": b}, 0.0
    fetch_the_past(new)
    assert len(refusals) == 2 * past.TRIES
    assert new.faults == []
    new.past._tries["b"] = past.TRIES
    new.past.connected("b")
    assert new.past._tries == {}


def past_with_a_changed_leaf(number, frame):
    stretch = Stretch.decode(frame)
    last = stretch.blocks[-1]
    leaves = tuple(leaf[:-1] + bytes((leaf[-1] ^ 1,)) for leaf in last.block.leaves)
    forged = replace(last, block=replace(last.block, leaves=leaves))
    return [replace(stretch, blocks=(*stretch.blocks[:-1], forged)).encode()]


def past_with_another_certificate(number, frame):
    stretch = Stretch.decode(frame)
    last = stretch.blocks[-1]
    bad = replace(last.certificate, signatures=tuple(bytes(64) for _ in last.certificate.members))
    return [
        replace(stretch, blocks=(*stretch.blocks[:-1], replace(last, certificate=bad))).encode()
    ]


def past_without_a_proof_of_its_parent(number, frame):
    stretch = Stretch.decode(frame)
    last = stretch.blocks[-1]
    bare = replace(last.block, justification=replace(last.block.justification, parent=None))
    blocks = (*stretch.blocks[:-1], replace(last, block=bare))
    return [replace(stretch, blocks=blocks).encode()]


def past_of_elsewhere(number, frame):
    return [replace(s := Stretch.decode(frame), blocks=s.blocks[:-1]).encode()]


def past_on_another_tree(number, frame):
    stretch = Stretch.decode(frame)
    before = replace(stretch.before, peaks=tuple(bytes(32) for _ in stretch.before.peaks))
    cut = replace(stretch, before=before)
    return [cut.encode()]


@pytest.mark.parametrize(
    "lie",
    [
        past_with_a_changed_leaf,
        past_with_another_certificate,
        past_without_a_proof_of_its_parent,
        past_of_elsewhere,
        past_on_another_tree,
        noise,
        nothing,
    ],
)
def test_a_lying_past_is_found_counted_and_not_written(sites, chain, lie, monkeypatch):
    monkeypatch.setattr("tilth_node.storage.past_blocks.STRETCH_BLOCKS", 7)
    new, b, c = sites
    assert joined(new, "c")
    restarted(new, chain)
    altering(b, "past", lie)
    began = new.store.history
    del new.links["c"]
    fetch_the_past(new)
    assert [name for name, _ in new.faults] == ["b"]
    assert new.store.history == began
    new.links["c"] = c
    new.faults.clear()
    fetch_the_past(new)
    assert new.store.history is None


def test_asks_that_are_none_are_refused(sites):
    async def ask(method, body):
        async for _ in sites[1].handlers[method]("new", body):
            pass

    for body in (b"", bytes(9)):
        with pytest.raises(Exception, match="8 bytes"):
            asyncio.run(ask("past", body))
    for height in (0, 1, FAR, 2**64 - 1):
        with pytest.raises(Unavailable):
            asyncio.run(ask("past", struct.pack(">Q", height)))


def test_a_draft_that_cannot_be_written_stops_the_node(sites):
    new = sites[0]
    new.folder.joining.mkdir()
    with pytest.raises(StorageFailed, match=r"ledger\.joining"):
        joined_or_raises(new)


def joined_or_raises(site):
    async def run():
        site.joining.told("b", FAR, 0)
        async with asyncio.timeout(100):
            await site.joining.run()

    asyncio.run(run())
