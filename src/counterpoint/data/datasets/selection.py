"""Some images of many: of some classes, a stratified sample, the first few."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from counterpoint.data.datasets.items import Items
from counterpoint.errors import InputError, UnknownNameError

# What is drawn from a seed: which classes get the images that are left, and the images of a class.
_REST, _IMAGES = 0, 1


def of_classes(
    items: Items, wanted: Sequence[int | str], other_names: Sequence[str] = ()
) -> NDArray[np.int64]:
    """The indices of the images of some classes, in their order.

    Args:
        items: All images.
        wanted: Names of classes, or their numbers, counted from 0.
        other_names: Second names of all classes.

    Raises:
        InputError: the images have no labels, a number out of range, or no images of a class.
        UnknownNameError: no class of that name.
    """
    if items.codes is None:
        raise InputError("classes can be chosen from a data set with labels only; this one has none.")
    places: dict[str, int] = {}
    for names in (other_names, items.classes):
        places |= {name: code for code, name in enumerate(names)}
    there = set(np.unique(items.codes).tolist())
    codes = set()
    for label in wanted:
        if isinstance(label, str) and label not in places:
            raise UnknownNameError.among("class", label, items.classes)
        code = places[label] if isinstance(label, str) else label
        if not 0 <= code < len(items.classes):
            raise InputError(f"classes must be numbers from 0 to {len(items.classes) - 1}, got {code}.")
        if code not in there:
            raise InputError(f"classes has {label!r}, of which the data set has no images.")
        codes.add(code)
    return np.flatnonzero(np.isin(items.codes, sorted(codes)))


def stratified(codes: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    """The indices of a random sample in which every class has its share, in their order.

    Every class gets its share of `count`, rounded down or up; the classes that are rounded up are those of the largest remainders, ties
    in a random order. Where all classes are of one size, a larger sample of the same seed holds the smaller one.

    Args:
        codes: The class of each image.
        count: At most as many as there are images.
        seed: Other seeds give other samples.

    Raises:
        InputError: `count` is larger than the number of images.
    """
    total = len(codes)
    if count > total:
        raise InputError(f"sample must be at most the number of images, {total:,}, got {count:,}.")
    classes, sizes = np.unique(codes, return_counts=True)
    shares, remainders = np.divmod(count * sizes.astype(np.int64), total)
    # A class keeps its place among ties whatever other classes there are.
    ties = np.random.default_rng((seed, _REST)).permutation(int(classes.max()) + 1)[classes]
    shares[np.lexsort((ties, -remainders))[: count - shares.sum()]] += 1
    order = np.argsort(codes, kind="stable")
    chosen = []
    for label, share, members in zip(classes, shares, np.split(order, np.cumsum(sizes)[:-1]), strict=True):
        rng = np.random.default_rng((seed, _IMAGES, int(label)))
        chosen.append(rng.permutation(members)[:share])
    return np.sort(np.concatenate(chosen))
