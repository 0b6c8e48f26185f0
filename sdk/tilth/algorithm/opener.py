"""What a data owner writes: an Opener, which reads samples.

A sample is a folder. `get_X` and `get_y` get a list of folders and return their rows one after
another: arrays, lists, or dicts of these; a folder may hold one row or many.

Invariants
- `get_X` reads nothing that the dataset's target patterns match: in a test those files are not
  there. A dataset without such patterns is exported first, by `export`, in a process that sees the
  labels and none of the algo's code.
- Features and predictions are files without pickles: .npy, or HDF5 for dicts and ragged lists.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilth.algorithm import weights
from tilth.algorithm.errors import WrongShape

FEATURES = "features"
PREDICTIONS = "predictions"


class Opener:
    """Reads the samples of a dataset. `get_X` and `get_y` must be written, the rest may."""

    def get_X(self, folders: Sequence[Path]) -> Any:  # noqa: N802  the name users know
        """The features of all rows of these samples."""
        raise WrongShape("this opener has no get_X", remedy="define get_X(self, folders)")

    def get_y(self, folders: Sequence[Path]) -> Any:
        """The targets of all rows of these samples, in the order of `get_X`."""
        raise WrongShape("this opener has no get_y", remedy="define get_y(self, folders)")

    def fake_X(self, n: int = 10) -> Any:  # noqa: N802
        """Made-up features of `n` rows, to try code without data."""
        raise WrongShape("this opener has no fake_X", remedy="define fake_X(self, n)")

    def fake_y(self, n: int = 10) -> Any:
        """Made-up targets of `n` rows."""
        raise WrongShape("this opener has no fake_y", remedy="define fake_y(self, n)")

    def export(self, X: Any, folder: Path) -> None:  # noqa: N803
        """Write the features of one sample; what stands here is all that predict will see."""
        write_rows(X, folder, FEATURES)

    def get_features(self, folder: Path) -> Any:
        """Read what `export` wrote."""
        return read_rows(folder, FEATURES)

    def save_predictions(self, y_pred: Any, folder: Path) -> None:
        """Write the predictions of one sample."""
        write_rows(y_pred, folder, PREDICTIONS)

    def get_predictions(self, folder: Path) -> Any:
        """Read what `save_predictions` wrote."""
        return read_rows(folder, PREDICTIONS)


def write_rows(rows: Any, folder: Path, name: str) -> None:
    """Arrays and lists as .npy, dicts of arrays and lists of arrays as HDF5; raises WrongShape."""
    import numpy as np

    if isinstance(rows, dict):
        (folder / f"{name}.h5").write_bytes(weights.write(rows))
    elif _is_ragged(rows):
        numbered = {f"{n:09}": row for n, row in enumerate(rows)}
        (folder / f"{name}.rows.h5").write_bytes(weights.write(numbered))
    else:
        array = np.asarray(rows)
        if array.dtype.kind == "O":
            raise WrongShape(
                f"{name} that are neither numbers nor text",
                found=type(rows).__name__,
                expected="an array, a list of numbers, texts or arrays, or a dict of arrays",
                remedy="define export and get_features, or save_predictions and get_predictions",
            )
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def read_rows(folder: Path, name: str) -> Any:
    """What `write_rows` wrote: an array, a dict of arrays, or a list of arrays."""
    import numpy as np

    if (folder / f"{name}.h5").is_file():
        return weights.read(folder / f"{name}.h5")
    if (folder / f"{name}.rows.h5").is_file():
        numbered = weights.read(folder / f"{name}.rows.h5")
        return [numbered[key] for key in sorted(numbered)]
    try:
        with open(folder / f"{name}.npy", "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise WrongShape(
            f"a sample without {name}",
            found=folder.name,
            remedy="Read what samples hold, or define your own save and load.",
        ) from None
    except (ValueError, EOFError) as error:
        raise WrongShape(
            f"{name} that cannot be read",
            found=f"{folder.name}: {error}",
            remedy="Let predict return arrays of numbers, or define how they are saved and read.",
        ) from None


def _is_ragged(rows: Any) -> bool:
    """A list of arrays of different shapes: signals of different length, images of any size."""
    if not isinstance(rows, (list, tuple)):
        return False
    shapes = {getattr(row, "shape", None) or (len(row) if _is_list(row) else ()) for row in rows}
    return len(shapes) > 1


def _is_list(row: Any) -> bool:
    return isinstance(row, (list, tuple))
