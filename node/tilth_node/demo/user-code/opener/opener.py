"""Reads a sample of handwritten digits: images.npy (n, 8, 8) and digits.npy (n,)."""

import numpy as np

from tilth.algorithm import Opener


class Digits(Opener):
    """X: one row of 64 pixels from 0 to 16 per image; y: the digit."""

    def get_X(self, folders):
        return np.concatenate([np.load(f / "images.npy").reshape(-1, 64) for f in folders])

    def get_y(self, folders):
        return np.concatenate([np.load(f / "digits.npy") for f in folders])

    def fake_X(self, n):
        return np.random.default_rng(0).integers(0, 17, (n, 64))

    def fake_y(self, n):
        return np.random.default_rng(0).integers(0, 10, n)
