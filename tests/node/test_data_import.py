"""Data import: only below a data root, every byte hashed, labels never mixed, secrets kept."""

import os
from pathlib import Path

import pytest

from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.rows import MemoryRows
from tilth_node.clock import Clock
from tilth_node.storage.desk import open_desk
from tilth_node.storage.samples import DataChanged, check_hash, check_metadata
from tilth_node.storage.sets import Sets
from tilth_node.storage.vault import Vault
from tilth_node.worker.data import Imported, Importer, Progress, Request
from tilth_node.worker.staging import check


class Site:
    """A node's folder and a data root with what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.root.mkdir()
        self.folder = folder
        self.samples = open_desk(folder / "worker.db").samples
        self.rows = MemoryRows()
        self.progress: list[Progress] = []
        self.importer = Importer(
            "hospital-a",
            (self.root,),
            folder / "samples",
            self.samples,
            Vault(folder / "vault", floor_bytes=0),
            Clock(),
        )

    def put(self, path: str, content: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def take(
        self, path: str, label: str = "train", in_place: bool = False, targets: tuple[str, ...] = ()
    ) -> list[Imported]:
        request = Request(label, self.root / path, in_place, targets)
        return self.importer.record(self.importer.read(request, self.progress.append), self.rows)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("path", ["no/such", "a\0b", "x" * 5_000])
def test_a_path_that_can_be_none_is_refused_in_words(site: Site, path: str) -> None:
    with pytest.raises(InvalidInput, match="no such data"):
        site.take(path)


def test_each_file_and_each_folder_is_one_sample(site: Site) -> None:
    site.put("train/one.png", "1")
    site.put("train/night/left.png", "2")
    site.put("train/night/right.png", "3")
    taken = {each.sample.name: each.sample for each in site.take("train")}
    assert taken.keys() == {"one.png", "night"}
    assert [seen.entry.path for seen in taken["night"].files] == ["left.png", "right.png"]


def test_copied_samples_outlive_their_origin(site: Site) -> None:
    original = site.put("train/one.png", "1")
    (taken,) = site.take("train")
    original.unlink()
    check_metadata(taken.sample)
    check_hash(taken.sample)


def test_samples_in_place_stay_where_they_are(site: Site) -> None:
    original = site.put("train/one.png", "1")
    (taken,) = site.take("train", in_place=True)
    assert taken.sample.root == original.parent
    assert list((site.folder / "samples").iterdir()) == []


def test_progress_tells_samples_and_bytes(site: Site) -> None:
    site.put("train/a", "xx")
    site.put("train/b", "yyy")
    site.take("train")
    assert site.progress[0] == Progress(0, 2, 0, 5)
    assert site.progress[-1] == Progress(2, 2, 5, 5)


def test_importing_again_gives_the_same_samples(site: Site) -> None:
    site.put("train/one.png", "1")
    (first,) = site.take("train")
    (again,) = site.take("train")
    assert (first.known, again.known) == (False, True)
    assert first.sample == again.sample
    assert len(list((site.folder / "samples").iterdir())) == 1


@pytest.mark.parametrize("in_place", [True, False])
def test_a_link_in_a_sample_is_refused(site: Site, in_place: bool) -> None:
    site.put("train/s/a", "x")
    (site.root / "train/s/link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="is a link"):
        site.take("train", in_place=in_place)
    assert site.samples.keys() == []


def test_a_path_outside_the_data_roots_is_refused(site: Site) -> None:
    for path in ("/etc", "../vault", "nothing-here"):
        with pytest.raises(InvalidInput, match=r"data root|no such data"):
            site.take(path)


def test_a_link_that_leads_out_of_the_data_root_is_refused(site: Site) -> None:
    (site.root / "way-out").symlink_to("/etc")
    with pytest.raises(InvalidInput, match="not under a data root"):
        site.take("way-out")


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("secret", ["keys", "keys/node.seed"])
def test_a_sample_that_is_itself_a_link_is_refused(
    site: Site, tmp_path: Path, secret: str, in_place: bool
) -> None:
    """Whoever writes in a data root must not make the node read its own keys for them."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/node.seed").write_text("secret")
    site.put("train/one.png", "1")
    (site.root / "train/two").symlink_to(tmp_path / secret)
    with pytest.raises(InvalidInput, match="is a link"):
        site.take("train", in_place=in_place)


def test_an_empty_folder_is_no_data(site: Site) -> None:
    (site.root / "train").mkdir()
    with pytest.raises(InvalidInput, match="no data here"):
        site.take("train")


@pytest.mark.rule("D4")
def test_the_same_bytes_as_train_and_as_test_are_refused_with_both_names(site: Site) -> None:
    site.put("train/one.png", "1")
    site.put("test/other-name.png", "1")
    (train,) = site.take("train")
    site.rows.apply({f"sample/{train.sample.key}": b"{}"})  # it was registered
    with pytest.raises(Refused, match=r"'other-name.png'.*'one.png'.*train data") as refused:
        site.take("test", label="test")
    assert refused.value.rule == "D4"
    assert len(list((site.folder / "samples").iterdir())) == 1


@pytest.mark.rule("D4")
def test_other_bytes_may_be_test_data(site: Site) -> None:
    site.put("train/one.png", "1")
    site.put("test/one.png", "2")
    site.take("train")
    assert [each.known for each in site.take("test", label="test")] == [False]


@pytest.mark.rule("D4")
def test_the_same_bytes_twice_in_one_import_are_refused(site: Site) -> None:
    site.put("train/a", "same")
    site.put("train/b", "same")
    with pytest.raises(Refused, match="'b' and 'a' hold the same bytes"):
        site.take("train")


@pytest.mark.rule("D3")
def test_commitment_and_tag_say_nothing_without_the_secrets(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    for each in (site, other):
        each.put("train/one.png", "1")
    (mine,), (theirs,) = site.take("train"), other.take("train")
    assert mine.sample.digest == theirs.sample.digest
    assert mine.sample.tag != theirs.sample.tag
    assert mine.sample.commitment != theirs.sample.commitment


def test_a_labelled_sample_without_target_file_is_refused(site: Site) -> None:
    site.put("train/s/image.png", "x")
    with pytest.raises(InvalidInput, match="no target file"):
        site.take("train", targets=("label.txt",))
    site.put("train/s/label.txt", "3")
    assert len(site.take("train", targets=("label.txt",))) == 1


@pytest.mark.rule("D2")
def test_a_changed_file_is_seen_by_the_cheap_check(site: Site) -> None:
    file = site.put("train/one.png", "1")
    (taken,) = site.take("train", in_place=True)
    check_metadata(taken.sample)
    file.write_text("2")
    with pytest.raises(DataChanged, match=r"one\.png"):
        check_metadata(taken.sample)


@pytest.mark.rule("D2")
def test_a_change_that_hides_from_the_cheap_check_is_seen_by_the_full_one(site: Site) -> None:
    file = site.put("train/one.png", "1")
    (taken,) = site.take("train", in_place=True)
    before = file.stat()
    file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_metadata(taken.sample)
    with pytest.raises(DataChanged, match="other bytes"):
        check_hash(taken.sample)


@pytest.mark.rule("D2")
def test_a_file_that_was_restored_with_the_same_bytes_passes(site: Site) -> None:
    file = site.put("train/one.png", "1")
    (taken,) = site.take("train", in_place=True)
    file.unlink()
    site.put("train/one.png", "1")
    check(taken.sample, content=False)
    site.put("train/one.png", "2")
    with pytest.raises(DataChanged):
        check(taken.sample, content=False)


@pytest.mark.rule("D2")
@pytest.mark.parametrize("damage", ["removed", "added"])
def test_a_file_that_went_or_came_is_seen(site: Site, damage: str) -> None:
    file = site.put("train/s/a", "1")
    site.put("train/s/b", "2")
    (taken,) = site.take("train", in_place=True)
    if damage == "removed":
        file.unlink()
    else:
        site.put("train/s/c", "3")
    for look in (check_metadata, check_hash):
        with pytest.raises(DataChanged):
            look(taken.sample)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_set_shows_each_sample_under_its_id_without_a_copy(site: Site, in_place: bool) -> None:
    site.put("train/s/a", "1")
    (taken,) = site.take("train", in_place=in_place)
    tree = Sets(site.folder / "sets").data("hospital-a/set", [taken.sample])
    file = tree / taken.sample.key.rpartition("/")[2] / "a"
    assert file.read_text() == "1"
    assert file.stat().st_ino == (taken.sample.root / "a").stat().st_ino
    check_metadata(taken.sample)


def test_features_leave_the_targets_out_wherever_they_lie(site: Site) -> None:
    for path in ("image.png", "label.txt", "deep/label.txt", "deep/other.png"):
        site.put(f"test/s/{path}", path)
    (taken,) = site.take("test", label="test", targets=("label.txt",))
    tree = Sets(site.folder / "sets").features("hospital-a/set", [taken.sample], ("label.txt",))
    seen = sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file())
    name = taken.sample.key.rpartition("/")[2]
    assert seen == [f"{name}/deep/other.png", f"{name}/image.png"]


def test_features_of_a_sample_whose_targets_match_nothing_are_refused(site: Site) -> None:
    site.put("test/s/image.png", "x")
    (taken,) = site.take("test", label="test")
    with pytest.raises(InvalidInput, match="no target file"):
        Sets(site.folder / "sets").features("hospital-a/set", [taken.sample], ("label.txt",))


def test_a_half_built_tree_is_built_again(site: Site) -> None:
    site.put("train/s/a", "1")
    (taken,) = site.take("train")
    left = site.folder / "sets" / "set" / "data.part" / "junk"
    left.mkdir(parents=True)
    tree = Sets(site.folder / "sets").data("hospital-a/set", [taken.sample])
    assert not (tree / "junk").exists()
    assert not left.exists()
