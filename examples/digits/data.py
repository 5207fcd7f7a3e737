# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's digits, 8 x 8 pixels each, split by a seed; as a file, samples for ``hetfab quantize --samples``."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hetfab.overlay.files import write_atomic

#: Images of the training part; all others are for testing.
TRAINED = 1197
_SEED = 3


class Digits(NamedTuple):
    """Images, float32 [N, 1, 8, 8] with pixels from 0 to 1, and the digits they show, int64 [N]."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def digits() -> tuple[Digits, Digits]:
    """The training part and the test part."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(images))
    scaled = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    first, second = (Digits(scaled[rows], labels[rows].astype(np.int64)) for rows in (order[:TRAINED], order[TRAINED:]))
    return first, second


def main() -> None:
    """Writes one part as images, as rows, or as both."""
    parser = argparse.ArgumentParser(description="Writes digits as samples for hetfab.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="an .npz file")
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--rows", action="store_true", help="64 columns in place of images")
    options = parser.parse_args()
    part = digits()[options.part == "test"]
    samples = part.images.reshape(len(part.images), -1) if options.rows else part.images
    write_atomic(options.output, lambda file: np.savez_compressed(file, samples=samples, labels=part.labels))
    print(f"{options.output}: {len(samples)} samples")


if __name__ == "__main__":
    main()
