"""Models as files: a dict of arrays becomes one HDF5 file with one byte form.

Invariants
- Equal arrays give equal bytes, whatever the order of the keys and whenever they are written: no
  times, sorted names, contiguous storage, a fixed file format version.
- Nothing is executed on reading: arrays of numbers and booleans only, no pickles.
- A file speaks for itself: HDF5 can take an array's bytes from other files (external storage,
  virtual datasets). Predictions could so read the labels where they are scored, and a model the
  data where it is trained on; such a file is refused, and links out of it are not followed.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilth.algorithm.errors import WrongShape

FILE = "model.h5"
KINDS = "biufc"  # of arrays: numbers and booleans


def write(arrays: Mapping[str, Any]) -> bytes:
    """The HDF5 bytes of named arrays (numbers or booleans, any shape; nested names with "/")."""
    import h5py
    import numpy as np

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=("earliest", "v110"), track_order=False) as file:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name]).reshape(np.shape(arrays[name]))
            if array.dtype.kind not in KINDS:
                raise WrongShape(
                    "a model holds something else than numbers",
                    found=f"{name}: {array.dtype}",
                    expected="a dict of arrays of numbers or booleans",
                    remedy="define save and load to write the model in a form of your own",
                )
            file.create_dataset(name, data=array, track_times=False)
    return buffer.getvalue()


def read(path: Path) -> dict[str, Any]:
    """The named arrays of a file that `write` made."""
    import h5py

    arrays: dict[str, Any] = {}
    try:
        with h5py.File(path, "r") as file:
            _collect(file, "", arrays)
    except (OSError, RuntimeError, RecursionError) as error:
        raise WrongShape(
            "a file that is no HDF5",
            found=f"{path.name}: {error}",
            remedy="Write it with tilth.algorithm.weights.write.",
        ) from None
    return arrays


def _collect(group: Any, prefix: str, arrays: dict[str, Any]) -> None:
    """Add the arrays of a group and its groups; raises WrongShape for a link to anywhere."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise WrongShape(
                "a file with a link in it",
                found=prefix + name,
                remedy="Write the arrays themselves, as weights.write does.",
            )
        item = group[name]
        if isinstance(item, h5py.Dataset):
            _check_own(prefix + name, item)
            arrays[prefix + name] = item[()]
        else:
            _collect(item, f"{prefix}{name}/", arrays)


def _check_own(name: str, item: Any) -> None:
    """Raise WrongShape unless the array's numbers lie in the file itself."""
    if item.external or item.is_virtual:
        raise WrongShape(
            "an array that takes its bytes from another file",
            found=name,
            expected="arrays stored in the file itself",
            remedy="Write the arrays themselves, as weights.write does.",
        )
    if item.dtype.kind not in KINDS:
        raise WrongShape(
            "a file holds something else than numbers",
            found=f"{name}: {item.dtype}",
            expected="arrays of numbers or booleans",
            remedy="Write only numbers, or define save and load of your own.",
        )


def save(model: Any, folder: Path) -> None:
    """Write a model as the one file of `folder`; raises WrongShape unless it is named arrays."""
    if not isinstance(model, Mapping) or not all(isinstance(name, str) for name in model):
        raise WrongShape(
            "a model that cannot be saved",
            found=type(model).__name__,
            expected="a dict of arrays",
            remedy="return a dict, or define save(model, folder) and load(folder)",
        )
    (folder / FILE).write_bytes(write(model))


def load(folder: Path) -> dict[str, Any]:
    """Read what `save` wrote."""
    path = folder / FILE
    if not path.is_file():
        names = ", ".join(sorted(p.name for p in folder.iterdir()))
        raise WrongShape(
            "an input model of another form",
            found=names or "no file",
            expected=FILE,
            remedy="Start from a model of this form, or define load(folder).",
        )
    return read(path)
