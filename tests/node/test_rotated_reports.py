"""What a worker says survives the rotation of the key that signed it."""

from types import SimpleNamespace

import pytest
from members_world import MembersWorld, file_of
from rules_world import Digits, named_key

from tilth_ledger.execution import AlreadyRecorded
from tilth_ledger.leaf import Entry, Leaf
from tilth_node.clock import Clock
from tilth_node.storage.desk import open_desk
from tilth_node.storage.folders import Folders
from tilth_node.storage.outbox import Statement
from tilth_node.storage.vault import Vault
from tilth_node.worker.delivery import deliver
from tilth_node.worker.site import Site

NEW = "hospital-c new node"


class Rotated:
    """A worker's desk beside a ledger of rules alone; hospital-c's node key may be rotated."""

    def __init__(self, tmp_path):
        self.world = MembersWorld()
        digits = Digits(self.world, ("hospital-a", "hospital-b", "hospital-c"), "hospital-a")
        digits.grant_all()
        self.task = digits.train("hospital-c")
        self.world.plan("hospital-a", [self.task])
        self.world.doing(self.task)
        self.key = named_key("hospital-c node")
        self.sent = []
        unused = SimpleNamespace()
        self.site = Site(
            organization="hospital-c",
            net=self.world.genesis.net,
            limits=unused,
            signer=lambda: self.key,
            rows=self.world.rows,
            submit=self.submit,
            ledger_ms=lambda: self.world.time_ms,
            clock=Clock(),
            vault=Vault(tmp_path / "vault", floor_bytes=0),
            desk=open_desk(tmp_path / "worker.db"),
            folders=Folders(tmp_path / "folders"),
            stage=unused,
            blobs=unused,
            runtime=unused,
            leftovers=unused,
            allowance=unused,
            scratch=tmp_path,
            features=tmp_path,
        )

    async def submit(self, leaf):
        self.sent.append(leaf)
        try:
            self.world.record(leaf)
        except AlreadyRecorded:
            return  # the ledger answers with the receipt of before

    def rotate(self):
        change = {"kind": "rotate", "member": file_of("hospital-c", node=NEW)}
        self.world.change(change, 2, 3)

    def statement(self):
        leaf = self.site.sign(self.world.done_operation(self.task))
        return self.site.desk.settle(Statement(self.task["key"], 1, leaf, True))


@pytest.fixture
def rotated(tmp_path):
    return Rotated(tmp_path)


def words(text):
    assert text == ""


async def test_a_report_that_waited_over_a_rotation_is_signed_again_and_recorded(rotated):
    statement = rotated.statement()
    rotated.rotate()
    rotated.key = named_key(NEW)
    await deliver(rotated.site, statement, words)
    assert rotated.world.shown(rotated.task) == "done"
    [sent] = rotated.sent
    old, new = (Entry.parse(Leaf.decode(each), 256) for each in (statement.leaf, sent))
    assert (old.operations, new.author) == (new.operations, rotated.key.key_id)
    assert rotated.site.desk.outbox.all() == []


async def test_a_key_that_is_rotated_between_two_tries_costs_nothing_either(rotated):
    statement, plain = rotated.statement(), rotated.site.submit

    async def slow(leaf):
        if rotated.key.key_id != named_key(NEW).key_id:
            rotated.rotate()
            rotated.key = named_key(NEW)
        await plain(leaf)

    object.__setattr__(rotated.site, "submit", slow)
    await deliver(rotated.site, statement, words)
    assert rotated.world.shown(rotated.task) == "done"
    assert len(rotated.sent) == 2


async def test_what_was_recorded_before_the_rotation_is_sent_as_it_was(rotated):
    statement = rotated.statement()
    rotated.world.record(statement.leaf)
    rotated.rotate()
    rotated.key = named_key(NEW)
    await deliver(rotated.site, statement, words)
    assert rotated.sent == [statement.leaf]
    assert rotated.world.shown(rotated.task) == "done"


async def test_a_node_that_lacks_its_new_key_keeps_what_it_has_to_say(rotated):
    statement = rotated.statement()
    rotated.rotate()  # and the folder holds the old key alone
    await deliver(rotated.site, statement, words)
    assert rotated.world.shown(rotated.task) == "doing"
    assert rotated.site.desk.outbox.all() == [statement]
