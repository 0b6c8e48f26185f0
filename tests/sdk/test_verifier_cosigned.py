"""The verifier on bundles of version 2: cosigned heads, epochs, witnesses, any changed byte."""

import base64
import json
import zlib
from dataclasses import replace

import pytest
from proven_world import ORGANIZER, PEM, SITES, Ledger, objective, site, spoil

from tilth import verifier
from tilth.proofs import proof_file, write_proofs
from tilth_ledger import bundle, canonical, policies
from tilth_ledger.blocks import FINALIZE, Certificate, Vote
from tilth_ledger.bundle import Finality, Proven
from tilth_ledger.checkpoints import Checkpoint, cosign, cosign_mldsa, cosigner_name, origin_of
from tilth_ledger.cosigning import CosignKeys, Head, publish, sign, sign_mldsa
from tilth_ledger.epoch_chain import EpochEnd
from tilth_ledger.epochs import Epoch, Membership, Signer, Signers
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis, member_file, parse_member_file
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import EPOCH_END, Leaf
from tilth_ledger.merkle import inclusion_proof, leaf_hash, verify_inclusion
from tilth_ledger.mldsa import MlDsaSigningKey
from tilth_ledger.notes import Note, VerifierKey
from tilth_ledger.policies import Policy
from tilth_ledger.proofs import TlogProof

NEWCOMER = "east"
NOW = 1_795_000_100


def mldsa(name):
    return MlDsaSigningKey.from_seed(
        SigningKey.from_seed(name.encode().ljust(32, b"m")).derive_seed("x")
    )


def genesis_with_mldsa(**choices):
    files = [member_file(s, s.title(), site(s), PEM, mldsa=mldsa(s)) for s in SITES]
    return Genesis.write("test", map(parse_member_file, files), limits={}, **choices)


def signer_of(name):
    keys = site(name)
    return Signer(name, keys["log"].public, keys["cosign"].public, mldsa(name).public)


class Cosigned(Ledger):
    """A ledger whose heads its members cosign, and whose members change."""

    def __init__(self, **choices):
        super().__init__(genesis_with_mldsa(**({"q": 2, "k": 3} | choices)))
        self.epoch = Epoch.first(self.genesis)
        self.signers = Signers(0, tuple(map(signer_of, SITES)), self.genesis.k)
        self.ends = []

    @property
    def origin(self):
        return origin_of(self.genesis.name, self.genesis.net)

    @property
    def names(self):
        return [member.organization for member in self.signers.members]

    def finality(self, members=None, **changes):
        header = self.header(epoch=self.epoch.number, **changes)
        chosen = range(self.epoch.q) if members is None else members
        votes = [
            Vote.sign(self.epoch, site(self.names[m])["vote"], m, FINALIZE, 9, header.hash)
            for m in chosen
        ]
        return Finality(header, Certificate.of(votes, len(self.names)))

    def end(self, voters=None):
        """The old members make the block final that ends with this leaf."""
        final, index = self.finality(voters), len(self.leaves) - 1
        path = tuple(inclusion_proof(index, index + 1, self.node))
        link = EpochEnd(self.leaves[-1], index, path, final.header, final.certificate)
        self.ends.append(link)

    def change(self, *names, q=2, k=2, voters=None, keys_of=None, **told):
        """The next epoch, of these members; the old ones make the block with its leaf final."""
        number, change = self.epoch.number + 1, {"kind": "quorum", "proposal": "x"}
        if keys_of is not None:
            change |= {"organization": keys_of}
            change["keys"] = {role: key.public.hex for role, key in site(keys_of).items()}
        listed = [
            {"organization": name, "cosign_mldsa": canonical.sha256_hex(mldsa(name).public.raw)}
            | {role: site(name)[role].public.hex for role in ("vote", "cosign", "log")}
            for name in names
        ]
        stated = {"net": self.genesis.net, "epoch": number, "members": listed, "q": q, "k": k}
        stated |= {"rules_version": 1, "change": change, "entries": []}
        self.append(Leaf(EPOCH_END, canonical.dumps(stated | told)))
        self.end(voters)
        parties = [parse_member_file(member_file(n, n, site(n), PEM)) for n in names]
        new = Membership(number, tuple(parties), (), q, k, 1)
        self.epoch = Epoch.starting(new, self.genesis.net_bytes)
        self.signers = Signers(number, tuple(map(signer_of, names)), k)
        return self

    def head(self):
        return Head(self.frontier.size, self.frontier.root(), self.epoch.number)

    def checkpoint(self, members=None, quantum=()):
        """The head as a note, cosigned by these members (all), some with ML-DSA-44 too."""
        found = {}
        for place, member in enumerate(self.signers.members):
            if members is None or place in members:
                name = member.organization
                keys = CosignKeys(site(name)["log"], site(name)["cosign"], mldsa(name))
                signed = sign(self.head(), self.origin, place, member, keys, NOW + place)
                if place in quantum:
                    signed += sign_mldsa(self.head(), self.origin, place, member, keys, NOW)
                found |= {(name, each.type): each.signature for each in signed}
        return publish(self.head(), found, self.signers, self.origin, self.names[0])

    def prove(self, *wanted, checkpoint=..., finality=None, ends=None, keys=None, since=None):
        note = self.checkpoint() if checkpoint is ... else checkpoint
        proven = Proven(
            self.frontier.size, note, finality, self.ends if ends is None else ends, keys or {}
        )
        return bundle.make(
            self.genesis, proven, wanted, self.leaves.__getitem__, self.node, self.rows, since
        )

    def check(self, data, **given):
        return verifier.verify(data, self.genesis.bytes, **given)

    def refused(self, data, check, **given):
        report = self.check(data, **given)
        assert not report.ok
        assert report.proven == []
        assert check in report.refusal["check"], report.refusal
        return report

    def grow(self, count=3):
        for number in range(count):
            self.write("south", site("south")["admin"], {"op": "x.y", "n": number})
        return self


def scored(**choices):
    """A ledger with a certified row, and the indexes of its results."""
    ledger = Cosigned(**choices)
    ledger.introduce("north", ORGANIZER, ["organizer"])
    at = ledger.write("north", ORGANIZER, objective())
    results = [ledger.certify(name, entries={"objective": at}) for name in SITES]
    return ledger.grow(), results


LEDGER, RESULTS = scored()
BUNDLE = LEDGER.prove(*RESULTS, checkpoint=LEDGER.checkpoint(quantum=(0, 1, 2)))


CONTENT = zlib.decompress(base64.b64decode(json.loads(BUNDLE)["content"]))


def test_a_row_under_a_cosigned_head_is_proven_with_its_weakest_link():
    report = LEDGER.check(BUNDLE)

    assert report.ok, report.refusal
    assert report.facts["signers"] == list(SITES)
    assert report.facts["quorum"] == "3 of 3"
    assert report.facts["time"] == "2026-11-18T11:08:22+00:00"  # when the third had signed
    assert report.facts["signed with ML-DSA-44"] == list(SITES)
    assert report.facts["score"] == "0.852941"
    assert report.facts["weakest link"] == (
        "3 of 3 members cosigned the head: 3 of the 3 could have forged it together"
    )
    # That they stand in a larger tree says nothing of what was withdrawn in between.
    assert report.facts["not checked"] == f"revocation after size {RESULTS[-1] + 1}"
    assert f"not checked: revocation after size {RESULTS[-1] + 1}" in str(report)
    assert any("3 or more of the 3 members sign two histories" in t for t in report.not_proven)


def test_votes_prove_while_cosigners_are_away_and_the_report_says_so():
    for note in (None, LEDGER.checkpoint(members=(0, 1))):
        report = LEDGER.check(LEDGER.prove(*RESULTS, checkpoint=note, finality=LEDGER.finality()))
        assert report.ok, report.refusal
        assert report.facts["weakest link"].startswith("2 of 3 members voted")
        assert any("1 or more of the 3 members" in text for text in report.not_proven)
    assert report.facts["cosigned"] == "2 of 3, 3 wanted"
    assert report.facts["signers"] == ["north", "south"]


def test_fewer_than_k_cosignatures_without_votes_are_refused():
    note = LEDGER.checkpoint(members=(0, 2))

    LEDGER.refused(LEDGER.prove(*RESULTS, checkpoint=note), "signatures of the head")
    LEDGER.refused(LEDGER.prove(*RESULTS, checkpoint=None), "form of the header")


def test_cosignatures_and_votes_of_one_head_are_both_told():
    report = LEDGER.check(LEDGER.prove(*RESULTS, finality=LEDGER.finality()))

    assert report.ok
    assert report.facts["height"] == 5
    assert report.facts["weakest link"].startswith("3 of 3 members cosigned")


def test_a_header_of_another_tree_than_the_checkpoint_is_refused():
    other = LEDGER.finality(size=3)

    LEDGER.refused(LEDGER.prove(*RESULTS, finality=other), "size of the header")
    other = LEDGER.finality(root=bytes(32))
    LEDGER.refused(LEDGER.prove(*RESULTS, finality=other), "root of the header")


def packed(data):
    return base64.b64encode(zlib.compress(data)).decode()


def flipped(text):
    """Every value that one changed character of hex or base64 gives, at some places."""
    for place in range(0, len(text), max(1, len(text) // 25)):
        yield text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


def changed_bundles(data):
    """A bundle with one byte changed, in each of its parts."""
    value = json.loads(data)
    for name in ("header", "certificate", "content"):
        for text in flipped(value.get(name, "")):
            yield name, value | {name: text}
    for place, text in enumerate(value["hashes"]):
        for other in flipped(text):
            hashes = [*value["hashes"][:place], other, *value["hashes"][place + 1 :]]
            yield "hashes", value | {"hashes": hashes}
    for kind in ("leaves", "epochs"):
        for place, item in enumerate(value[kind]):
            for name, old in item.items():
                others = (
                    flipped(old)
                    if isinstance(old, str)
                    else ([old + 1] if isinstance(old, int) else [old[:-1], [*old, 0], old[::-1]])
                )
                for other in others:
                    if other != old:
                        items = [*value[kind][:place], item | {name: other}]
                        yield f"{kind} {name}", value | {kind: [*items, *value[kind][place + 1 :]]}


def test_any_changed_byte_of_signed_or_hashed_parts_is_refused():
    ledger = Cosigned()
    ledger.grow(3).change(*SITES, k=2).grow(2)
    data = ledger.prove(1, 4, finality=ledger.finality())
    assert ledger.check(data).ok
    count = 0
    for part, value in changed_bundles(data):
        count += 1
        assert not ledger.check(canonical.dumps(value)).ok, part
    assert count > 300


def test_any_changed_byte_of_the_checkpoint_is_refused():
    value = json.loads(BUNDLE)
    note = value["checkpoint"]
    for place in range(0, len(note), 7):
        other = note[:place] + ("A" if note[place] != "A" else "B") + note[place + 1 :]
        report = LEDGER.check(canonical.dumps(value | {"checkpoint": other}))
        if report.ok:  # a line whose name or key id is changed is of nobody known: not relied on
            lines = [Note.decode(each.encode()).lines for each in (note, other)]
            [(was, now)] = [(a, b) for a, b in zip(*lines, strict=True) if a != b]
            assert (was.name, was.key_id) != (now.name, now.key_id)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda v: v.update(format="tilth-bundle-3"), "format of the bundle"),
        (lambda v: v.update(format=["tilth-bundle-2"]), "format of the bundle"),
        (lambda v: v.update(more=1), "fields of the bundle"),
        (lambda v: v.pop("hashes"), "fields of the bundle"),
        (lambda v: v.update(genesis="00" * 32), "genesis of the bundle"),
        (lambda v: v.update(hashes=[*v["hashes"], v["hashes"][0]]), "hashes of the bundle"),
        (lambda v: v.update(hashes=5), "hashes of the bundle"),
        (lambda v: v.update(hashes=["AA=="]), "length of the hash"),
        (lambda v: v["leaves"][0].update(path=[True]), "path of leaf"),
        (lambda v: v["leaves"][0].update(path=[-1]), "path of leaf"),
        (lambda v: v["leaves"][0].update(path=[9999]), "path of leaf"),
        (lambda v: v["leaves"][0].update(length=-1), "length of leaf"),
        (lambda v: v["leaves"][-1].update(length=70_000), "length of leaf"),
        (lambda v: v["leaves"].pop(), "hashes of the bundle"),
        (lambda v: v.update(content=packed(CONTENT + b"x")), "content of the bundle"),
        (lambda v: v.update(content="AAAA"), "form of the content"),
        (lambda v: v.update(content=v["content"][:-8]), "size of the content"),
        (lambda v: v.update(content=packed(bytes(65 << 20))), "size of the content"),
        (lambda v: v.update(epochs={}), "epochs of the bundle"),
        (lambda v: v.update(epochs=[5]), "fields of the end"),
        (lambda v: v.update(checkpoint=5), "form of the checkpoint"),
        (lambda v: v.update(checkpoint=v["checkpoint"][:-1]), "form of the checkpoint"),
        (lambda v: v.update(checkpoint="\n" + v["checkpoint"]), "form of the checkpoint"),
        (lambda v: v.update(checkpoint=v["checkpoint"] + "x\n"), "form of a line"),
        (lambda v: v.update(checkpoint="x" + v["checkpoint"]), "origin of the checkpoint"),
        (lambda v: v.update(checkpoint=v["checkpoint"] + "— a b\n" * 100), "lines of"),
        (lambda v: v.update(keys={"north": "AA=="}), "ML-DSA-44 key of north"),
        (lambda v: v.update(keys=[]), "keys of the bundle"),
        (lambda v: v.update(consistency={"size": "3"}), "size of the consistency"),
    ],
    ids=range(29),
)
def test_a_malformed_bundle_is_refused(change, check):
    LEDGER.refused(spoil(BUNDLE, change), check)


def test_lines_of_strangers_are_ignored_and_a_bad_line_of_a_member_is_not():
    note = Note.decode(LEDGER.checkpoint())
    stranger = SigningKey.from_seed(bytes([9]) * 32)
    extra = cosign("stranger.example", stranger, note.text, 5)
    data = LEDGER.prove(0, checkpoint=Note(note.text, (extra, *note.lines)).encode())
    assert LEDGER.check(data).ok

    bad = replace(note.lines[1], signature=bytes(72))
    spoiled = Note(note.text, (*note.lines, bad)).encode()
    LEDGER.refused(LEDGER.prove(0, checkpoint=spoiled), "signature of north on the checkpoint")
    for kind, place in ((1, 0), (6, -1)):
        full = Note.decode(LEDGER.checkpoint(quantum=(0, 1, 2)))
        line = full.lines[place]
        wrong = replace(line, signature=line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
        lines = [wrong if each == line else each for each in full.lines]
        data = LEDGER.prove(0, checkpoint=Note(full.text, tuple(lines)).encode())
        LEDGER.refused(data, "on the checkpoint"), kind


@pytest.mark.parametrize(
    "line",
    [
        "\u2014 a+b AAAAAAAA",
        "\u2014 a\u00a0b AAAAAAAA",
        "\u2014 a\tb AAAAAAAA",
        "\u2014 a AAAAAA==",
        "\u2014 a AAAAAAB=",
        "\u2014  AAAAAAAA",
        "- a AAAAAAAA",
    ],
)
def test_a_line_that_no_note_may_hold_is_refused_also_of_a_stranger(line):
    note = LEDGER.checkpoint() + f"{line}\n".encode()
    with pytest.raises(InvalidInput):
        Note.decode(note)
    LEDGER.refused(LEDGER.prove(0, checkpoint=note), "of the checkpoint")


def test_another_consortiums_signatures_prove_nothing_here():
    twin = Cosigned(k=2)
    twin.grow(len(LEDGER.leaves))

    LEDGER.refused(LEDGER.prove(0, checkpoint=twin.checkpoint()), "origin of the checkpoint")


def test_a_member_counts_once_however_many_lines_it_has():
    text = Checkpoint(LEDGER.origin, LEDGER.frontier.size, LEDGER.frontier.root()).text
    name = cosigner_name(LEDGER.origin, "north")
    lines = tuple(cosign(name, site("north")["cosign"], text, NOW + n) for n in range(3))

    LEDGER.refused(LEDGER.prove(0, checkpoint=Note(text, lines).encode()), "signatures of the head")


# -- epochs


@pytest.fixture(scope="module")
def changed():
    """Three epochs: west is lost for good, east comes, north's keys are others from then on."""
    ledger, results = scored()
    ledger.change("north", "south", q=2, k=2, voters=(0, 1)).grow(2)
    ledger.change("north", "south", NEWCOMER, q=2, k=3, keys_of=NEWCOMER).grow(2)
    return ledger, results


def test_a_proof_outlives_the_loss_of_a_member_and_changes_of_the_others(changed):
    ledger, results = changed
    report = ledger.check(ledger.prove(*results))

    assert report.ok, report.refusal
    assert report.facts["epoch"] == 2
    assert report.facts["signers"] == ["north", "south", NEWCOMER]
    assert "2 of 3 members of epoch 0 began epoch 1" in report.facts["weakest link"]
    assert any("1 or more of the 3 members" in text for text in report.not_proven)
    assert any("2 of 2 members of epoch 1 began epoch 2" in text for text in report.proven)


def test_an_identity_that_an_epoch_brought_is_known(changed):
    ledger, _ = changed
    index = ledger.write(NEWCOMER, site(NEWCOMER)["admin"], {"op": "x.y"})
    report = ledger.check(ledger.prove(index))

    assert report.ok
    assert any(f"signed by {NEWCOMER} (admin)" in text for text in report.proven)


def test_old_members_cannot_sign_heads_of_a_new_epoch(changed):
    ledger, _ = changed
    old = Cosigned()
    old.frontier, old.genesis = ledger.frontier, ledger.genesis

    ledger.refused(ledger.prove(0, checkpoint=old.checkpoint()), "signatures of the head")
    ledger.refused(ledger.prove(0, checkpoint=None, finality=old.finality()), "epoch of the header")


def test_a_missing_or_repeated_epoch_is_refused(changed):
    ledger, _ = changed
    first, second = ledger.ends

    ledger.refused(ledger.prove(0, ends=[second]), "epoch of the header")
    votes = ledger.finality()
    ledger.refused(ledger.prove(0, ends=[first], finality=votes), "epoch of the header")
    ledger.refused(ledger.prove(0, ends=[first, first, second]), "epoch of the header")


def test_without_votes_on_the_head_its_epoch_is_not_proven(changed):
    ledger, _ = changed
    # The two that sign for epoch 1 also sign in epoch 2: who leaves its beginning out is believed.
    report = ledger.check(ledger.prove(0, ends=ledger.ends[:1]))
    assert report.ok
    assert any("that epoch 1 had not ended before this head" in t for t in report.not_proven)

    whole = ledger.check(ledger.prove(0, finality=ledger.finality()))
    assert whole.ok
    assert not any("had not ended" in text for text in whole.not_proven)


def test_an_epoch_that_too_few_old_members_ended_is_refused():
    ledger = Cosigned()
    ledger.grow().change("north", "south", voters=(0,)).grow()

    ledger.refused(ledger.prove(0), "members of the certificate")


@pytest.mark.parametrize(
    ("told", "check"),
    [
        ({"net": "00" * 32}, "consortium of the end"),
        ({"epoch": 2}, "number of the epoch"),
        ({"rules_version": 2}, "rules_version after the end"),
        ({"rules_version": True}, "rules_version after the end"),
        ({"q": 1}, "q of the end"),
        ({"k": 3}, "k of the end"),
        ({"members": []}, "q of the end"),
        ({"change": 5}, "change of the end"),
        ({"change": {"keys": {}, "organization": "north"}}, "vote key of north"),
    ],
)
def test_an_epoch_whose_leaf_makes_no_sense_is_refused(told, check):
    ledger = Cosigned()
    ledger.grow().change("north", "south", **told).grow()

    ledger.refused(ledger.prove(0), check)


def test_another_leaf_in_the_place_of_an_epochs_end_is_refused():
    ledger = Cosigned()
    ledger.grow()
    ledger.end()
    ledger.grow()

    ledger.refused(ledger.prove(0), "type of the end of epoch 0")


def test_a_head_that_forgets_the_history_before_an_epoch_is_refused():
    ledger = Cosigned()
    ledger.grow().change("north", "south").grow(5)
    forged = Cosigned()
    forged.grow(len(ledger.leaves))
    forged.signers, forged.epoch = ledger.signers, ledger.epoch
    data = json.loads(ledger.prove(0))
    other = json.loads(forged.prove(0))
    mixed = data | {"checkpoint": other["checkpoint"]}

    ledger.refused(canonical.dumps(mixed), "history before the end of epoch 0")


def test_mldsa_keys_of_later_epochs_are_those_whose_digests_the_leaf_states(changed):
    ledger, results = changed
    note = ledger.checkpoint(quantum=(0, 1, 2))
    keys = {NEWCOMER: mldsa(NEWCOMER).public}
    report = ledger.check(ledger.prove(*results, checkpoint=note, keys=keys))
    assert report.facts["signed with ML-DSA-44"] == ["north", "south", NEWCOMER]

    without = ledger.check(ledger.prove(*results, checkpoint=note))
    assert without.ok
    assert without.facts["signed with ML-DSA-44"] == ["north", "south"]
    wrong = {NEWCOMER: mldsa("north").public}
    ledger.refused(ledger.prove(0, checkpoint=note, keys=wrong), "digest of the ML-DSA-44 key")


# -- what the reader knows beside


def test_the_ledger_extends_a_checkpoint_that_the_reader_trusts():
    ledger = Cosigned()
    ledger.grow(5)
    old = ledger.checkpoint()
    ledger.grow(8)
    report = ledger.check(ledger.prove(0, since=5), trusted=old)
    assert report.ok, report.refusal
    assert any("extends the checkpoint of 5 entries" in text for text in report.proven)

    assert ledger.check(ledger.prove(0), trusted=ledger.checkpoint()).ok
    ledger.refused(ledger.prove(0), "consistency proof", trusted=old)
    ledger.refused(ledger.prove(0, since=4), "consistency proof", trusted=old)
    ledger.refused(ledger.prove(0, since=5), "form of the checkpoint", trusted=b"x")
    ledger.refused(ledger.prove(0, since=5), "form of the trusted", trusted=b"\xff")


def test_a_forked_ledger_does_not_extend_a_trusted_checkpoint():
    ledger, fork = Cosigned(), Cosigned()
    ledger.grow(5)
    trusted = ledger.checkpoint()
    fork.write("north", site("north")["admin"], {"op": "x.y"})
    fork.grow(12)

    fork.refused(fork.prove(0, since=5), "history since the trusted", trusted=trusted)
    same = Cosigned()
    same.grow(4).write("north", site("north")["admin"], {"op": "z"})
    same.refused(same.prove(0), "history since the trusted", trusted=trusted)


@pytest.mark.parametrize("quantum", [False, True])
def test_an_outside_witness_that_is_asked_for_must_have_signed(quantum):
    key = SigningKey.from_seed(bytes([5]) * 32)
    note = Note.decode(LEDGER.checkpoint())
    if quantum:
        line = cosign_mldsa("w.example", mldsa("w"), note.text, NOW)
        vkey = VerifierKey("w.example", 6, mldsa("w").public.raw)
    else:
        line = cosign("w.example", key, note.text, NOW)
        vkey = VerifierKey("w.example", 4, key.public.raw)
    data = LEDGER.prove(0, checkpoint=Note(note.text, (*note.lines, line)).encode())
    report = LEDGER.check(data, witnesses=(str(vkey),))
    assert report.ok, report.refusal
    assert any("w.example, outside the consortium" in text for text in report.proven)
    assert report.facts["weakest link"].endswith("forged it together, and w.example too")
    assert any("sign two histories, and w.example too" in text for text in report.not_proven)

    LEDGER.refused(LEDGER.prove(0), "witnesses of the checkpoint", witnesses=(str(vkey),))
    votes = LEDGER.prove(0, checkpoint=None, finality=LEDGER.finality())
    LEDGER.refused(votes, "signatures of the head", witnesses=(str(vkey),))
    LEDGER.refused(data, "a witness", witnesses=("w.example+00000000+BAAA",))
    shouted = str(vkey).replace(vkey.id.hex(), vkey.id.hex().upper())
    assert LEDGER.check(data, witnesses=(shouted,)).ok


def test_a_bundle_that_can_hold_no_witness_is_refused_to_who_asks_for_one():
    key = SigningKey.from_seed(bytes([5]) * 32)
    vkey = VerifierKey("w.example", 4, key.public.raw)
    old = Ledger()  # its bundles are of version 1: votes, and no checkpoint
    data = old.bundle(old.certify("south"))

    assert verifier.verify(data, old.genesis.bytes).ok
    report = verifier.verify(data, old.genesis.bytes, witnesses=(str(vkey),))
    assert report.refusal["check"] == "signatures of the head"
    assert not verifier.verify(data, old.genesis.bytes, witnesses=("nonsense",)).ok


# -- proof files


def test_the_twin_of_a_bundle_proves_its_entry_to_tools_of_other_logs(tmp_path):
    files = write_proofs(tmp_path / "row.json", BUNDLE, RESULTS)
    assert [file.name for file in files] == [
        "row.json",
        "row.tlog-proof",
        f"row-{RESULTS[1]}.tlog-proof",
        f"row-{RESULTS[2]}.tlog-proof",
    ]
    assert files[0].read_bytes() == BUNDLE
    policy = Policy.parse(policies.write(LEDGER.origin, LEDGER.signers))
    for file, index in zip(files[1:], RESULTS, strict=True):
        proof = TlogProof.decode(file.read_bytes())
        head = policy.check(proof.checkpoint)
        assert (proof.index, proof.extra) == (index, LEDGER.leaves[index])
        verify_inclusion(leaf_hash(proof.extra), index, head.size, proof.path, head.root)


def test_a_bundle_without_checkpoint_has_no_twin():
    data = LEDGER.prove(0, checkpoint=None, finality=LEDGER.finality())

    assert proof_file(data, 0) is None


def test_hashes_that_paths_share_stand_in_a_bundle_once():
    value = json.loads(BUNDLE)
    steps = [place for leaf in value["leaves"] for place in leaf["path"]]

    assert len(set(value["hashes"])) == len(value["hashes"]) == len(set(steps)) < len(steps)
    assert all(len(base64.b64decode(text)) == 32 for text in value["hashes"])
