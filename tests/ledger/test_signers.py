"""Who signs heads of the tree, of every epoch: their keys are found for ever."""

from members_world import MembersWorld, file_of
from rules_world import named_mldsa

from tilth_ledger.epochs import signers_of

A = "hospital-a"


def rotate(world, label):
    file = file_of(A, mldsa=named_mldsa(label), cosign=f"{label} cosign")
    world.change({"kind": "rotate", "member": file}, by=("hospital-b", "hospital-c"))


def mldsa_of(world, epoch, organization=A):
    signers = signers_of(world.rows, epoch, world.genesis)
    key = signers.members[signers.place(organization)].mldsa
    return None if key is None else key.raw


def test_mldsa_keys_that_were_rotated_away_are_found_for_their_epochs():
    world = MembersWorld(quantum=True)
    for label in ("second", "third"):
        rotate(world, label)
    world.change({"kind": "quorum"}, 3, 3)

    found = [mldsa_of(world, epoch) for epoch in range(4)]
    assert found == [named_mldsa(each).public.raw for each in (A, "second", "third", "third")]
    assert mldsa_of(world, 3, "hospital-b") == named_mldsa("hospital-b").public.raw
    assert signers_of(world.rows, 4, world.genesis) is None


def test_a_key_that_nobody_registered_is_not_found():
    world = MembersWorld()
    assert mldsa_of(world, 0) is None
    rotate(world, "second")
    world.change({"kind": "remove", "organization": A}, 2, 2, ("hospital-b", "hospital-c"))

    assert mldsa_of(world, 0) is None
    assert mldsa_of(world, 1) == named_mldsa("second").public.raw
    assert signers_of(world.rows, 2, world.genesis).place(A) is None
