"""The demo's data: scikit-learn's handwritten digits, given to three hospitals writer by writer.

load_digits holds 1,797 images of 8 x 8 pixels that 13 people wrote one after the other, about 138
each. A hospital gets whole writers (7, 4 and 2 of them), so the three differ as sites do. Of each
writer the last quarter is labelled test.

A sample is a folder with images.npy (n, 8, 8) and digits.npy (n,): the first images of each
writer are samples of one image, the rest are sheets of many.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

WRITERS = {"hospital-a": range(7), "hospital-b": range(7, 11), "hospital-c": range(11, 13)}
ALL_WRITERS = 13
SINGLES = 5  # samples of one image, per writer and label
SHEET = 25  # most images of one sheet


@dataclass(frozen=True)
class Share:
    """What one hospital got of one label: how many images in how many samples."""

    images: int
    samples: int


def blocks():
    """(images, digits) of each writer, in the order of the data set."""
    data = load_digits()
    edges = np.linspace(0, len(data.target), ALL_WRITERS + 1).astype(int)
    for first, last in itertools.pairwise(edges):
        yield data.images[first:last].astype(np.uint8), data.target[first:last].astype(np.int64)


def parts(organization):
    """{"train": [(images, digits) of each writer], "test": [...]} of one hospital."""
    every = list(blocks())
    shares = {"train": [], "test": []}
    for writer in WRITERS[organization]:
        images, digits = every[writer]
        cut = len(digits) * 3 // 4
        shares["train"].append((images[:cut], digits[:cut]))
        shares["test"].append((images[cut:], digits[cut:]))
    return shares


def write(organization, folder):
    """Writes FOLDER/train and FOLDER/test; returns the Share of each label."""
    told = {}
    for label, writers in parts(organization).items():
        count = 0
        for writer, (images, digits) in enumerate(writers):
            for part in _sheets(len(digits)):
                name = f"writer{writer + WRITERS[organization].start:02d}-{part.start:03d}"
                place = folder / label / name
                place.mkdir(parents=True)
                np.save(place / "images.npy", images[part])
                np.save(place / "digits.npy", digits[part])
                count += 1
        told[label] = Share(sum(len(digits) for _, digits in writers), count)
    return told


def _sheets(rows):
    """Slices of one image each, then of a sheet each."""
    edges = [*range(SINGLES), *range(SINGLES, rows, SHEET), rows]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def write_answers(folder):
    """Writes all images with their digits beside the code of the algorithm that knows them."""
    every = list(blocks())
    folder = Path(folder)
    np.save(folder / "images.npy", np.concatenate([images for images, _ in every]).reshape(-1, 64))
    np.save(folder / "digits.npy", np.concatenate([digits for _, digits in every]))
