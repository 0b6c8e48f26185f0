"""From an environment's row to what is built: files not here, or not what they should be."""

from pathlib import Path
from typing import Any

import pytest

from tilth_ledger import archive
from tilth_ledger.archive import ArchiveFile
from tilth_node.runtimes import EnvironmentMissing
from tilth_node.storage.vault import Vault
from tilth_node.worker.environments import blobs_of, environment_of


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", floor_bytes=0)


def row(**spec: Any) -> dict[str, Any]:
    return {"digest": "e" * 64, "spec": {"python": ">=3.11", "requirements": ["numpy"], **spec}}


def test_lock_and_dockerfile_come_from_the_vault(vault: Vault) -> None:
    files = [ArchiveFile("Dockerfile", False, b"FROM a"), ArchiveFile("x/y", False, b"1")]
    packed, lock = vault.write(archive.write(files)), vault.write(b"numpy==2 --hash=sha256:aa")
    made = row(dockerfile=packed.digest, lock=lock.digest, base="a")
    assert blobs_of(made) == {packed.digest, lock.digest}
    found = environment_of(made, vault)
    assert (found.base, found.lock) == ("a", b"numpy==2 --hash=sha256:aa")
    assert found.files == {"Dockerfile": b"FROM a", "x/y": b"1"}


@pytest.mark.parametrize("field", ["lock", "dockerfile"])
def test_a_file_that_is_not_here_is_named(vault: Vault, field: str) -> None:
    with pytest.raises(EnvironmentMissing, match=r"not on this node.*no blob dddd.*upload"):
        environment_of(row(**{field: "d" * 64}), vault)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"FROM a", "did not come as an archive"),
        (archive.write([ArchiveFile("Containerfile", False, b"")]), "holds no Dockerfile"),
    ],
)
def test_a_dockerfile_that_is_none_is_the_environment_s_fault(
    vault: Vault, content: bytes, words: str
) -> None:
    made = row(dockerfile=vault.write(content).digest)
    with pytest.raises(EnvironmentMissing, match=rf"{words}.*register the environment again"):
        environment_of(made, vault)
