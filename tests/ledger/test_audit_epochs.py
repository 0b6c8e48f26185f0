"""An audit goes through every epoch: its votes are held against its own members, and its end
against the certificate of those who voted until then."""

from dataclasses import replace

import pytest
from audited_chain import Chain
from members_world import MembersWorld, file_of

from tilth_ledger.audit import Audit
from tilth_ledger.audit_entries import Preview
from tilth_ledger.blocks import FINALIZE, NOTARIZE, Block, Certificate, Header, Justification
from tilth_ledger.epoch_chain import epoch_chain
from tilth_ledger.execution import Executor
from tilth_ledger.leaf import EPOCH_END, leaf_type
from tilth_ledger.merkle import leaf_hash, verify_inclusion
from tilth_ledger.versions import RULES
from tilth_node.audit_command import lines


class EpochChain(Chain, MembersWorld):
    """Real blocks over changes of who votes."""


@pytest.fixture(scope="module")
def chain():
    """A fourth member joins, one is removed, one rotates its keys; entries before and after."""
    world = EpochChain()
    world.admit(votes=True, q=3, k=3)
    world.dataset("hospital-b")
    removal = {"kind": "remove", "organization": "hospital-c"}
    world.change(removal, 2, 3, ("hospital-a", "clinic-d", "hospital-b"))
    world.submit("clinic-d", {"op": "organization.update", "name": "Clinic"}, role="admin")
    world.vote_labels["hospital-a"] = "new vote"
    file = file_of("hospital-a", vote="new vote", admin="new admin")
    world.change({"kind": "rotate", "member": file}, 2, 3, ("hospital-b", "clinic-d"))
    world.dataset("hospital-b")
    return world


@pytest.fixture(scope="module")
def ends(chain):
    """Places of the blocks that end an epoch."""
    return [
        at
        for at, (block, _) in enumerate(chain.blocks)
        if any(leaf_type(leaf) == EPOCH_END for leaf in block.leaves)
    ]


def kinds(report):
    return {each.what for each in report.findings}


def test_a_ledger_of_four_epochs_audits_clean(chain, ends):
    report = chain.audit()
    assert [str(each) for each in report.findings] == []
    assert report.stopped == []
    assert [chain.blocks[at][0].header.epoch for at in ends] == [0, 1, 2]
    assert chain.blocks[-1][0].header.epoch == 3


def test_entries_that_were_looked_at_ahead_are_audited_alike(chain):
    """Keys that came with an epoch are not known ahead: there the audit verifies by itself."""
    preview, blocks = Preview(chain.genesis), chain.stored()
    seen = [preview.of(block.leaves) for block in blocks]
    marked = [
        replace(block, formed=formed, signed=signed)
        for block, (formed, signed) in zip(blocks, seen, strict=True)
    ]
    assert set(seen) == {(True, True), (True, False)}
    assert chain.audit(marked).as_dict() == chain.audit(blocks).as_dict()

    forged = blocks[-1].leaves[0][:-1] + bytes([blocks[-1].leaves[0][-1] ^ 1])
    assert Preview(chain.genesis).of([forged])[1] is False
    assert Preview(chain.genesis).of([b"no leaf", forged]) == (True, False)  # no entry either


def test_an_end_without_the_old_members_certificate_is_found(chain, ends):
    blocks = chain.stored()
    blocks[ends[0]] = replace(blocks[ends[0]], certificate=None)
    report = chain.audit(blocks)
    assert kinds(report) == {"certificate"}
    assert "whose epoch it ends" in report.findings[0].expected


def test_an_end_certified_by_the_new_members_is_found(chain, ends):
    blocks = chain.stored()
    block, _ = chain.blocks[ends[2]]
    now = chain.certificate(FINALIZE, block.header.view, block.hash)
    blocks[ends[2]] = replace(blocks[ends[2]], certificate=now.encode())
    assert kinds(chain.audit(blocks)) == {"certificate"}


def test_a_block_of_the_old_epoch_after_its_end_is_found(chain, ends):
    blocks = chain.stored()
    after = ends[0] + 1
    header = replace(Header.decode(blocks[after].header), epoch=0)
    blocks[after] = replace(blocks[after], header=header.encode())
    assert {"chain", "certificate"} <= kinds(chain.audit(blocks))


def test_an_end_may_be_final_through_an_empty_block_above_it(chain, ends):
    blocks, (end, _) = chain.stored(), chain.blocks[ends[-1]]
    old = _before_the_last_end(chain)
    above = _empty_above(chain, old, end)
    proof = old.certificate(FINALIZE, above.header.view, above.hash)
    changed = replace(blocks[ends[-1]], certificate=proof.encode(), void=(above.encode(),))
    blocks[ends[-1]] = changed
    assert [str(each) for each in chain.audit(blocks).findings] == []
    for wrong in ((), (above.encode(), above.encode()), (b"garbage",)):
        blocks[ends[-1]] = replace(changed, void=wrong)
        assert kinds(chain.audit(blocks)) == {"certificate"}
    blocks[ends[-1]] = changed
    blocks[0] = replace(blocks[0], void=(above.encode(),))
    assert "storage" in kinds(chain.audit(blocks))


def _before_the_last_end(chain):
    """The chain as it was then: it signs as the members did."""
    old = EpochChain.__new__(EpochChain)
    old.__dict__.update(chain.__dict__)
    old.epochs = chain.epochs[:-1]
    return old


def _empty_above(chain, old, end):
    view = end.header.view + 1
    why = Justification(old.certificate(NOTARIZE, end.header.view, end.hash))
    header = replace(
        end.header,
        view=view,
        height=end.header.height + 1,
        parent=end.hash,
        parent_view=end.header.view,
        skips=why.skips_digest,
        leaf_count=0,
        time_ms=end.header.time_ms + 1,
        proposer=old.in_force().leader(view),
    )
    return Block(header, (), why)


def test_without_the_rules_of_an_epoch_the_rest_is_not_judged():
    world = EpochChain()
    for replica in (world.proposer, world.voter):
        replica[0] = Executor(world.genesis, replica[0].rows, {**RULES, 2: RULES[1]})
    world.change({"kind": "rules", "rules_version": 2})
    world.dataset("hospital-b")
    report = world.audit()
    assert any("lacks rules_version 2" in words for words in report.stopped)
    assert kinds(report) == set()
    # What was not checked is not clean, whatever was found in the rest.
    assert not report.clean
    words = list(lines(report, 1.0))
    assert words[-1].startswith("NOT WHOLE")
    assert any("lacks rules_version 2: rules were not checked after it" in each for each in words)


def test_votes_of_an_epoch_whose_members_are_not_known_are_not_judged(chain, ends):
    blocks = chain.stored()
    broken = replace(blocks[1], leaves=tuple(leaf[:-1] for leaf in blocks[1].leaves))
    blocks[1] = broken
    auditor = Audit(chain.genesis)
    for _ in auditor.follow(blocks):
        pass
    stopped = auditor.finish(chain.beside()).stopped
    assert any("who votes is not known" in words for words in stopped)


def test_the_chain_of_epochs_proves_each_by_the_one_before(chain, ends):
    def final_with(index):
        at = next(i for i, (block, _) in enumerate(chain.blocks) if block.header.size > index)
        return chain.blocks[at][0].header, chain.blocks[at][1]

    executor = chain.proposer[0]
    held = {(level, at): hashed for nodes in chain.nodes for level, at, hashed in nodes}
    links = epoch_chain(
        executor.rows, lambda i: chain.leaves[i], lambda level, at: held[level, at], final_with
    )
    assert [link.header.epoch for link in links] == [0, 1, 2]
    for link, at in zip(links, ends, strict=True):
        assert leaf_type(link.leaf) == EPOCH_END
        assert link.certificate.block == link.header.hash == chain.blocks[at][0].hash
        verify_inclusion(
            leaf_hash(link.leaf), link.index, link.header.size, list(link.path), link.header.root
        )
        assert isinstance(link.certificate, Certificate)
