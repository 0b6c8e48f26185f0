"""The upper end of the scale: an algorithm that carries the answers in its archive.

The digits are public, so anyone can look them up. It never sees a label of a test: it recognizes
the images. That is why a test set that matters is one that nobody has seen.
"""

from pathlib import Path

import numpy as np

from tilth.algorithm import Algorithm


class Perfect(Algorithm):
    """Looks images up."""

    def start(self, task):
        here = Path(__file__).parent
        return {"images": np.load(here / "images.npy"), "digits": np.load(here / "digits.npy")}

    def predict(self, features, model, task):
        pairs = zip(model["images"], model["digits"], strict=True)
        known = {row.tobytes(): digit for row, digit in pairs}
        rows = np.asarray(features.X, dtype=model["images"].dtype)
        return np.array([known[row.tobytes()] for row in rows])
