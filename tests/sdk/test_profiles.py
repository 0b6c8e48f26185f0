"""Profiles on this machine: what is written, what is refused, and what an error says to do."""

import json

import pytest

from tilth import InvalidInput, profiles


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTH_HOME", str(tmp_path / "tilth"))
    monkeypatch.delenv("TILTH_PROFILE", raising=False)
    return tmp_path


@pytest.fixture
def genesis(home):
    file = home / "genesis.json"
    member = {"organization": "hospital-a", "tls_authority": "-----BEGIN CERTIFICATE-----\n"}
    file.write_text(json.dumps({"members": [member]}))
    return file


def add(name, genesis, **options):
    return profiles.add(
        name, address="127.0.0.1:7000", organization="hospital-a", genesis=genesis, **options
    )


def test_a_profile_is_read_back_as_it_was_written(genesis):
    made = add("hospital-a", genesis)

    assert profiles.load("hospital-a") == made
    assert profiles.names() == ["hospital-a"]


def test_a_new_key_is_made_once_and_readable_by_its_owner_alone(genesis):
    made = add("hospital-a", genesis)

    assert made.key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidInput, match="there is a key at this place already"):
        add("hospital-a", genesis)


def test_a_given_key_is_kept_when_a_profile_is_replaced(genesis, home):
    key = home / "my.key"
    public = profiles.write_key(key).public

    add("hospital-a", genesis, key=key)
    made = add("hospital-a", genesis, key=key)

    assert made.signing_key().public == public


def test_the_authority_comes_from_the_genesis_file(genesis):
    made = add("hospital-a", genesis)

    assert made.tls_authority.read_text().startswith("-----BEGIN CERTIFICATE")


def test_an_organization_that_the_genesis_does_not_list_is_refused(genesis):
    with pytest.raises(InvalidInput, match="no organization hospital-x"):
        profiles.add("x", address="h:1", organization="hospital-x", genesis=genesis)
    assert profiles.names() == []


def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(genesis):
    made = add("hospital-a", genesis)
    made.key.chmod(0o644)

    with pytest.raises(InvalidInput, match=f"chmod 600 {made.key}"):
        made.signing_key()


def test_a_file_that_is_no_key_is_refused(home):
    file = home / "notes.txt"
    file.write_text("hello")
    file.chmod(0o600)

    with pytest.raises(InvalidInput, match="not a key file"):
        profiles.read_key(file)


def test_the_only_profile_needs_no_name(genesis):
    made = add("hospital-a", genesis)

    assert profiles.load() == made


def test_of_two_profiles_one_must_be_named(genesis, monkeypatch):
    add("one", genesis)
    two = add("two", genesis)

    with pytest.raises(InvalidInput, match="profiles one, two"):
        profiles.load()
    monkeypatch.setenv("TILTH_PROFILE", "two")
    assert profiles.load() == two


def test_an_unknown_profile_says_which_there_are_and_how_to_make_it(genesis):
    add("one", genesis)

    with pytest.raises(InvalidInput, match=r"found profiles one.*tilth profile add two"):
        profiles.load("two")


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b", "-a"])
def test_a_name_never_leaves_the_folder_of_profiles(name, genesis):
    with pytest.raises(InvalidInput, match="not a profile name"):
        add(name, genesis)


def test_a_damaged_profile_says_what_is_missing(genesis, home):
    add("one", genesis)
    (home / "tilth" / "profiles" / "one.json").write_text('{"address": "h:1"}')

    with pytest.raises(InvalidInput, match="without organization, key"):
        profiles.load("one")
