"""The tree digest: same content same name, any difference another name, test vectors."""

import hashlib

import pytest

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import TreeEntry, tree_digest

HELLO = hashlib.sha256(b"hello").hexdigest()
WORLD = hashlib.sha256(b"world!").hexdigest()


def test_the_empty_folder_has_the_digest_of_the_first_line() -> None:
    assert tree_digest([]) == hashlib.sha256(b"tilth-tree-1\n").hexdigest()


def test_two_files_have_the_digest_written_down_in_the_format() -> None:
    written = f"tilth-tree-1\nx 6 {WORLD} a/world\n- 5 {HELLO} hello.txt\n".encode()
    entries = [TreeEntry("hello.txt", False, 5, HELLO), TreeEntry("a/world", True, 6, WORLD)]
    assert tree_digest(entries) == hashlib.sha256(written).hexdigest()
    assert tree_digest(entries) == (
        "92ed7712bf3439726fff59fca0a3b721eaac1aa03203c6df13af47f61605aa77"
    )


def test_the_order_of_the_walk_does_not_matter() -> None:
    entries = [TreeEntry(f"f{i}", False, 5, HELLO) for i in range(20)]
    assert tree_digest(entries) == tree_digest(reversed(entries))


def test_names_are_sorted_by_their_utf8_bytes() -> None:
    high, wide = TreeEntry("\uffee", False, 5, HELLO), TreeEntry("\U00010000", False, 5, HELLO)
    text = f"tilth-tree-1\n- 5 {HELLO} \uffee\n- 5 {HELLO} \U00010000\n".encode()
    assert tree_digest([wide, high]) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        TreeEntry("hello.txt", True, 5, HELLO),
        TreeEntry("hello.txt", False, 6, HELLO),
        TreeEntry("hello.txt", False, 5, WORLD),
        TreeEntry("hello.tx", False, 5, HELLO),
    ],
)
def test_any_difference_changes_the_digest(changed: TreeEntry) -> None:
    assert tree_digest([changed]) != tree_digest([TreeEntry("hello.txt", False, 5, HELLO)])


@pytest.mark.parametrize(
    "path", ["", "/a", "../a", "a/../b", "a//b", "a\nb", "./a", "\udc80", "x" * 1025]
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        tree_digest([TreeEntry(path, False, 5, HELLO)])


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(InvalidInput):
        tree_digest([TreeEntry("a", False, 5, HELLO), TreeEntry("a", False, 6, WORLD)])
