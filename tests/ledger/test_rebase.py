"""A new genesis that names where the old ledger ended, and who signed that."""

from dataclasses import replace

import pytest

from tilth_ledger import canonical, rebase
from tilth_ledger.blocks import FINALIZE, NOTARIZE, Header
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis
from tilth_ledger.keys import SigningKey

KEY = SigningKey.from_seed(b"k" * 32)


def header_of(consortium, **changed):
    hashes = dict.fromkeys(("parent", "skips", "root", "state"), b"h" * 32)
    facts = {"net": consortium.genesis.net_bytes, "epoch": 0, "view": 9, "height": 8}
    facts |= {"parent_view": 8, "leaf_count": 1, "size": 40, "time_ms": 5, "proposer": 0}
    return Header(**(facts | hashes | changed))


def statement(consortium, member, header=None, kind=FINALIZE, key=None):
    header = header or header_of(consortium)
    final = consortium.certificate(kind, header.view, header.hash, (0, 1))
    signer = key or consortium.keys[member]["vote"]
    name = consortium.genesis.members[member].organization
    return rebase.sign(name, signer, header, final)


def begun(consortium, *members):
    checkpoint = rebase.gather([statement(consortium, member) for member in members])
    return rebase.write("anew", checkpoint, consortium.epoch, consortium.genesis)


def test_the_new_genesis_names_the_old_net_its_checkpoint_and_who_signed(consortium):
    genesis = begun(consortium, 0, 1)
    assert genesis.net != consortium.genesis.net
    assert [member.organization for member in genesis.members] == ["org-1", "org-2"]
    assert [other.organization for other in genesis.organizations] == ["org-3"]
    named = rebase.continued(Genesis.parse(genesis.bytes))
    named.check(consortium.epoch)
    assert (named.net, named.header) == (consortium.genesis.net, header_of(consortium))
    assert sorted(named.signatures) == ["org-1", "org-2"]


def test_a_ledger_that_ended_with_an_epoch_is_continued_by_members_of_the_next(consortium):
    after = replace(consortium.epoch, number=1)
    checkpoint = rebase.gather([statement(consortium, 0), statement(consortium, 1)])
    with pytest.raises(InvalidInput):
        checkpoint.check(after)
    checkpoint.check(after, consortium.epoch)
    rotated = replace(after.members[0], keys=replace(after.members[0].keys, vote=KEY.public))
    after = replace(after, members=(rotated, *after.members[1:]))
    checkpoint.check(after, consortium.epoch)  # signed by the key of before
    signed = statement(consortium, 0, key=KEY)
    rebase.gather([signed]).check(after, consortium.epoch)
    with pytest.raises(InvalidInput):
        rebase.gather([signed]).check(consortium.epoch)


def test_statements_about_different_blocks_found_nothing(consortium):
    other = header_of(consortium, size=41)
    files = [statement(consortium, 0), statement(consortium, 1, other)]
    with pytest.raises(InvalidInput, match="different blocks"):
        rebase.gather(files)
    with pytest.raises(InvalidInput, match="nobody signed"):
        rebase.gather([])


def test_a_statement_signed_by_another_key_is_refused(consortium):
    stolen = statement(consortium, 0, key=consortium.keys[1]["vote"])
    with pytest.raises(InvalidInput, match="does not verify"):
        rebase.gather([stolen]).check(consortium.epoch)


def test_a_block_that_was_not_final_is_no_checkpoint(consortium):
    with pytest.raises(InvalidInput, match="does not make"):
        rebase.gather([statement(consortium, 0, kind=NOTARIZE)]).check(consortium.epoch)


def test_a_statement_of_another_ledger_is_refused(consortium, consortium_of):
    foreign = consortium_of(3, name="foreign")
    with pytest.raises(InvalidInput, match="another consortium"):
        rebase.gather([statement(foreign, 0)]).check(consortium.epoch)


@pytest.mark.parametrize("name", ["net", "size", "root", "header", "certificate", "signatures"])
def test_no_fact_of_the_checkpoint_can_be_changed_unnoticed(consortium, name):
    genesis = begun(consortium, 0, 1)
    value = canonical.loads(genesis.bytes)
    facts = value["continues"]
    facts[name] = {
        "net": "00" * 32,
        "size": 41,
        "root": "00" * 32,
        "header": header_of(consortium, size=41).encode().hex(),
        "certificate": consortium.certificate(FINALIZE, 9, b"x" * 32).encode().hex(),
        "signatures": {"org-1": "00" * 64},
    }[name]
    forged = Genesis.parse(canonical.dumps(value))
    with pytest.raises(InvalidInput):
        rebase.continued(forged).check(consortium.epoch)


def test_a_genesis_that_continues_nothing_says_so(consortium):
    with pytest.raises(InvalidInput, match="continues no other"):
        rebase.continued(consortium.genesis)


@pytest.mark.parametrize("garbage", [b"{}", b"[]", b'{"format":"tilth-rebase-1"}', b"\xff"])
def test_a_file_that_is_no_statement_is_refused(garbage):
    with pytest.raises(InvalidInput):
        rebase.gather([garbage])


def test_whoever_did_not_vote_signs_for_nobody(consortium):
    checkpoint = rebase.gather([statement(consortium, 0)])
    stranger = replace(checkpoint, signatures={"stranger": bytes(64)})
    with pytest.raises(InvalidInput, match="did not vote"):
        stranger.check(consortium.epoch)
