"""What a data set can be asked, and the one whose images are files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from counterpoint.data.datasets.evidence import item_evidence
from counterpoint.data.datasets.item import Item
from counterpoint.errors import InputError
from counterpoint.images import read_image
from counterpoint.preprocessing import Preprocessing


class DataSet(Protocol):
    """Images with names, perhaps with labels, perhaps with the place of what the label says."""

    @property
    def kind(self) -> str:
        """As in the settings: "folder", "imagenet", ..."""

    @property
    def items(self) -> Sequence[Item]:
        """The images in their order; made as they are asked for, so that millions take little memory."""

    def card(self) -> dict[str, Any]:
        """Plain data about it.

        kind; images: how many; of: what, in words; classes: how many different ones; evidence: "masks", "segmentations", "boxes",
        "exact" or None; licence_note; left_out: how many images and why; settings: as they were given.
        """

    def picture(self, item: Item) -> Image.Image:
        """The image, upright, 8-bit RGB.

        Raises:
            ImageError: a file that is no image, or is damaged.
        """

    def evidence(self, item: Item, preprocessing: Preprocessing) -> Bool[Tensor, "height width"] | None:
        """Where the labelled object is, of the size of the model's input; None where nobody has said.

        Raises:
            InputError: an annotation for a picture of another size.
            ImageError: a photograph or mask that cannot be read.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotographSet:
    """A data set whose images are files."""

    kind: str
    items: Sequence[Item]
    facts: Mapping[str, Any]
    """The card."""

    def card(self) -> dict[str, Any]:
        """See `DataSet`."""
        return dict(self.facts)

    def picture(self, item: Item) -> Image.Image:
        """See `DataSet`."""
        if item.path is None:
            raise InputError(f"item must be of this data set, whose images are files, got '{item.name}'.")
        return read_image(item.path)

    def evidence(self, item: Item, preprocessing: Preprocessing) -> Bool[Tensor, "height width"] | None:
        """See `DataSet`."""
        return item_evidence(item, preprocessing)
