"""ROAD's systems beside SciPy's direct solver: seconds for each image and mask, taking turns, and how far the pictures are apart.

    python benchmarks/road.py [--images N] [--masks N] [--size N] [--repeats N] [--threads N]

Every image with every mask, 90 % of the pixels removed: of random pixels, and of blobs, which are what ordering a smooth map removes.
SciPy: one `scipy.sparse.linalg.spsolve` for each image and mask, all three channels at once; its equations are set up beforehand and not
timed. Ours: one call of `cp.baselines.ROAD(noise=0).fill` for all, everything included, float32 in and out. SciPy's solver runs on one
thread, and so does ours unless told otherwise. Absolute times mean little on a shared machine; each ratio is of runs next to each other.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import scipy.sparse
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

import counterpoint as cp

REMOVED = 0.9
NEIGHBOURS = [(dy, dx, 2 - dy * dy * dx * dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]

Equations = tuple[scipy.sparse.csc_matrix, np.ndarray]


def equations(image: np.ndarray, removed: np.ndarray) -> Equations:
    """Matrix and right-hand sides: sum over neighbours in the image of weight * (own - neighbour's) = 0; weights 2 and 1."""
    height, width = removed.shape
    y, x = np.nonzero(removed)
    own = np.arange(len(y))
    number = np.full(removed.shape, -1)
    number[removed] = own
    diagonal, right = np.zeros(len(y)), np.zeros((len(y), len(image)))
    rows, columns, entries = [own], [own], [diagonal]
    for dy, dx, weight in NEIGHBOURS:
        inside = np.nonzero((y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width))[0]
        ny, nx = y[inside] + dy, x[inside] + dx
        diagonal[inside] += weight
        unknown = removed[ny, nx]
        rows.append(inside[unknown])
        columns.append(number[ny[unknown], nx[unknown]])
        entries.append(np.full(int(unknown.sum()), -float(weight)))
        right[inside[~unknown]] += weight * image[:, ny[~unknown], nx[~unknown]].T
    places = (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csc_matrix((np.concatenate(entries), places)), right


def random_mask(size: int, seed: int) -> np.ndarray:
    """Single pixels anywhere."""
    draw = np.random.default_rng(seed).random((size, size))
    return draw < np.quantile(draw, REMOVED)


def blob_mask(size: int, seed: int) -> np.ndarray:
    """What ordering a smooth map removes."""
    draw = gaussian_filter(np.random.default_rng(seed).random((size, size)), size / 12)
    return draw < np.quantile(draw, REMOVED)


def photograph(size: int, seed: int) -> np.ndarray:
    """Smooth colours with some detail, in [0, 1]."""
    draw = np.random.default_rng(seed).random((3, size, size))
    mixed = sum(sigma * gaussian_filter(draw, (0, sigma, sigma)) for sigma in (1, 4, 16))
    return (mixed - mixed.min()) / (mixed.max() - mixed.min())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, usual in (("images", 2), ("masks", 3), ("size", 224), ("repeats", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.images} images x {given.masks} masks, {given.size} pixels, {REMOVED:.0%} removed\n")
    print("| masks | SciPy, s each | ours, s each | times faster: median | least | largest difference |")
    print("|---|---|---|---|---|---|")
    for name, mask in (("random pixels", random_mask), ("blobs", blob_mask)):
        pairs = [
            (photograph(given.size, i), mask(given.size, m))
            for i in range(given.images)
            for m in range(given.masks)
        ]
        images = torch.tensor(np.stack([image for image, _ in pairs]), dtype=torch.float32)
        removed = torch.tensor(np.stack([mask for _, mask in pairs]))
        systems = [equations(*pair) for pair in pairs]
        cp.baselines.ROAD(noise=0).fill(images[:1], removed[:1])  # to warm up
        theirs, ours = [], []
        for _ in range(given.repeats):
            start = time.perf_counter()
            solutions = [spsolve(*system) for system in systems]
            between = time.perf_counter()
            filled = cp.baselines.ROAD(noise=0).fill(images, removed)
            ours.append((time.perf_counter() - between) / len(pairs))
            theirs.append((between - start) / len(pairs))
        gap = max(
            np.abs(picture.numpy()[:, mask] - solution.T).max()
            for picture, (_, mask), solution in zip(filled, pairs, solutions, strict=True)
        )
        ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
        print(
            f"| {name} | {statistics.median(theirs):.3f} | {statistics.median(ours):.3f} | "
            f"{statistics.median(ratios):.1f} | {min(ratios):.1f} | {gap:.1e} |"
        )


if __name__ == "__main__":
    main()
