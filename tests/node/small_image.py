"""The smallest image that has layers, as an engine saves it and as Tilth writes it."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tilth_node.runtimes import imagefile

LAYERS = [b"lowest" * 200, b"highest" * 300]
ENVIRONMENT = "e" * 64


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config(*layers: bytes, label: str = ENVIRONMENT) -> bytes:
    digests = [f"sha256:{sha(each)}" for each in layers]
    labels = {"Labels": {imagefile.LABEL: label}}
    return json.dumps(
        {"config": labels, "rootfs": {"type": "layers", "diff_ids": digests}}
    ).encode()


def saved(folder: Path, layers: list[bytes], stated: bytes, *, linked: bool = False) -> Path:
    """A tar as older engines save one: folders, a layer twice as a link, the manifest last."""
    path = folder / "saved.tar"
    names = [f"{n}/layer.tar" for n in range(len(layers))]
    with tarfile.open(path, "w") as archive:
        for number, (name, layer) in enumerate(zip(names, layers, strict=True)):
            info = tarfile.TarInfo(name)
            info.mtime = 12_345
            if linked and number:
                info.type, info.linkname = tarfile.SYMTYPE, "../0/layer.tar"
            else:
                info.size = len(layer)
            archive.addfile(info, None if info.issym() else io.BytesIO(layer))
        manifest = [{"Config": "c.json", "RepoTags": ["evil:latest"], "Layers": names}]
        for name, content in (("c.json", stated), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def made(folder: Path) -> bytes:
    target = io.BytesIO()
    imagefile.write(saved(folder, LAYERS, config(*LAYERS)), target)
    return target.getvalue()
