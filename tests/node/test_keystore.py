"""The keys of a node."""

from dataclasses import replace
from pathlib import Path

import pytest

from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import MemberKeys, Organization
from tilth_node import keystore, tls
from tilth_node.clock import Clock


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    keystore.create(folder, Clock(), tls.new_authority("hospital-a", Clock().utc()))
    return folder


def test_each_purpose_has_a_key_of_its_own(keys: Path) -> None:
    loaded = keystore.load(keys)
    every = [loaded.vote, loaded.cosign, loaded.log, loaded.node, keystore.load_admin(keys)]
    assert len({key.key_id for key in every}) == 5


def test_the_same_folder_gives_the_same_keys(keys: Path) -> None:
    assert keystore.load(keys) == keystore.load(keys)


def test_secrets_are_readable_by_the_owner_alone(keys: Path) -> None:
    for name in (keystore.MEMBER, keystore.NODE, keystore.ADMIN, keystore.AUTHORITY_KEY):
        assert (keys / name).stat().st_mode & 0o777 == 0o600


def test_a_seed_that_others_can_read_is_refused(keys: Path) -> None:
    (keys / keystore.NODE).chmod(0o644)
    with pytest.raises(InvalidInput, match=r"can be read by others.*chmod 600"):
        keystore.load(keys)


def test_a_damaged_seed_is_refused_without_being_shown(keys: Path) -> None:
    secret = (keys / keystore.MEMBER).read_text().strip()
    (keys / keystore.MEMBER).write_text(secret[:-1])
    with pytest.raises(InvalidInput) as caught:
        keystore.load(keys)
    assert secret[:16] not in str(caught.value)


def test_a_missing_key_says_what_to_do(keys: Path) -> None:
    (keys / keystore.AUTHORITY_KEY).unlink()
    with pytest.raises(InvalidInput, match="restore it from its backup"):
        keystore.load(keys)


def test_rotated_keys_lie_beside_the_old_and_count_when_the_ledger_lists_them(keys: Path) -> None:
    old = keystore.load(keys)
    keystore.rotate(
        keys, Clock(), ["member", "tls"], tls.new_authority("hospital-a", Clock().utc())
    )
    new = keystore.load_newest(keys)
    assert new.vote != old.vote
    assert (new.node, new.authority != old.authority) == (old.node, True)
    assert keystore.load(keys) == old
    listed = organization(new)
    assert keystore.load(keys, listed) == new
    assert keystore.load(keys, replace(listed, tls_authority="another")).authority == old.authority
    assert keystore.vote_key(keys, old.vote.public) == old.vote
    assert keystore.vote_key(keys, new.vote.public) == new.vote
    assert keystore.vote_key(keys, new.log.public) is None
    assert keystore.authorities(keys) == new.authority + old.authority


def test_a_second_rotation_keeps_what_it_does_not_renew(keys: Path) -> None:
    authority = tls.new_authority("hospital-a", Clock().utc())
    keystore.rotate(keys, Clock(), ["member", "admin"], authority)
    first, admin = keystore.load_newest(keys), keystore.load_newest_admin(keys)
    keystore.rotate(keys, Clock(), ["node"], authority)
    second = keystore.load_newest(keys)
    assert (second.vote, keystore.load_newest_admin(keys)) == (first.vote, admin)
    assert second.node != first.node
    assert keystore.load_admin(keys) != admin
    assert {each.stat().st_mode & 0o777 for each in keys.glob("[0-9]/*.seed")} == {0o600}


def organization(held: keystore.Keys) -> Organization:
    named = (held.vote, held.cosign, held.log, held.node, held.node)
    public = MemberKeys(*(key.public for key in named))
    pem = held.authority.decode("ascii")
    return Organization("hospital-a", "Hospital A", True, False, public, pem)


@pytest.mark.parametrize("name", [keystore.MEMBER, keystore.AUTHORITY_KEY, keystore.AUTHORITY])
def test_a_file_that_the_disk_does_not_give_back_is_named_with_what_to_do(
    keys: Path, name: str
) -> None:
    (keys / name).unlink()
    (keys / name).mkdir(mode=0o700)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be read.*restore it from its backup"):
        keystore.load(keys)


def test_a_key_and_a_certificate_that_do_not_belong_together_are_refused(
    keys: Path, tmp_path: Path
) -> None:
    other = tls.new_authority("hospital-a", Clock().utc())
    (keys / keystore.AUTHORITY_KEY).write_bytes(other[0])
    with pytest.raises(InvalidInput, match=r"authority\.key is not the key of authority\.pem"):
        keystore.load(keys)
