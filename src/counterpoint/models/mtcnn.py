"""MTCNN, a face detector of three small networks, with its trained weights.

The first network looks at every window of an image pyramid, the second and the third look again at what is left, each in finer detail.

Reference: Zhang et al. 2016, arXiv:1604.02878; thresholds, smallest face and step of the pyramid as in the authors' public code.
"""

import io
import pickle
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from counterpoint.detectors.candidates import Candidates, Reported, padded
from counterpoint.detectors.crops import crops
from counterpoint.detectors.detector import Detector
from counterpoint.detectors.overlap import without_doubles
from counterpoint.detectors.pixels import check_colour_pixels
from counterpoint.detectors.sizing import Sizing
from counterpoint.errors import FetchError
from counterpoint.models.cache import load_cached
from counterpoint.models.mtcnn_networks import STRIDE, WINDOWS, FaceNets
from counterpoint.models.published import PUBLISHED

SMALLEST_FACE = 20
"""In pixels: what a window of 12 pixels shows at the largest scale."""
STEP = 0.709
"""From one scale of the pyramid to the next: half the area."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Probability from which each of the three networks lets a window pass, where the detector reports."""
DOUBLES = (0.5, 0.7, 0.7, 0.7)
"""Overlap above which two windows are one: within a scale, between scales, after the second network, after the third (over the smaller)."""
MOST = (200, 50)
"""Windows that the second and the third network look at; the best of each image, so that weak faces stay candidates."""


class FaceCascade(nn.Module):
    """The three networks one after the other.

    Candidates are the windows that the third network looks at: the 50 that the second finds best, whether or not they pass the
    thresholds. A face is thus a candidate still where it has become weak. Gradients flow through the third network, into the pixels of the
    window that it looks at; where the windows lie, which the first two find, carries none.

    Args:
        model: The networks; held, not copied.
        regions: (held, 4) in pixels of the input: windows for the third network, whatever the first two find.
    """

    wraps = "model"
    background: frozenset[int] = frozenset()
    maps_in_regions = True

    def __init__(self, model: FaceNets, regions: Float[Tensor, "held 4"] | None = None) -> None:
        super().__init__()
        self.model = model
        self.regions = regions
        self.training = model.training

    def forward(self, pixels: Float[Tensor, "rows 3 height width"]) -> Candidates:
        """The candidates of each row, of one class, "face"."""
        return self._run(pixels)[0]

    def report(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[Candidates, list[Reported]]:
        """The candidates, and the faces: what passes all three thresholds, doubles left out."""
        candidates, passed = self._run(pixels)
        found = []
        for boxes, scores, good in zip(
            candidates.boxes[:, :, 0], candidates.scores[..., 0], passed, strict=True
        ):
            good = torch.nn.functional.pad(good, (0, len(boxes) - len(good))) & (scores >= THRESHOLDS[2])
            boxes, scores = boxes[good], scores[good]
            kept = without_doubles(boxes, scores, above=DOUBLES[3], over="smaller")
            found.append(Reported(boxes=boxes[kept], scores=scores[kept], labels=torch.zeros_like(kept)))
        return candidates, found

    def holding(self, regions: Float[Tensor, "held 4"]) -> "FaceCascade":
        """The third network alone, on these windows."""
        return FaceCascade(self.model, regions.detach())

    def levels(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[str, ...]:
        """The last maps of the third network: 3 x 3 cells on the window, not on the image."""
        return ("onet.features.prelu4",)

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """See `check_colour_pixels`."""
        check_colour_pixels(name, pixels)

    def _run(self, pixels: Tensor) -> tuple[Candidates, list[Bool[Tensor, " windows"]]]:
        """The candidates, and which of each row's passed the first two thresholds."""
        windows, passed = [], []
        for image in pixels:
            if self.regions is None:
                with torch.no_grad():
                    found, good = self._windows(image)
            else:
                found, good = self.regions.to(image), torch.ones(len(self.regions), dtype=torch.bool)
            windows.append(found)
            passed.append(good)
        # All windows of all rows at once: a layer of the third network then runs once, as a cut needs it.
        side, counts = WINDOWS["onet"], [len(each) for each in windows]
        pictures = torch.cat([crops(*pair, side) for pair in zip(pixels, windows, strict=True)])
        logits, offsets = self.model.onet(_centred(pictures))
        boxes = _moved(torch.cat(windows), offsets)
        # Of two classes, one minus the other: its sigmoid is the softmax of "face".
        face = logits[:, 1:] - logits[:, :1]
        regions = padded(windows)
        return (
            Candidates(
                boxes=padded(list(torch.split(boxes, counts))).unsqueeze(2),
                scores=padded(list(torch.split(face.sigmoid(), counts))),
                logits=padded(list(torch.split(face, counts))),
                level=torch.zeros(regions.shape[:2], dtype=torch.int64, device=pixels.device),
                regions=regions,
            ),
            passed,
        )

    def _windows(self, image: Float[Tensor, "3 height width"]) -> tuple[Tensor, Tensor]:
        """Windows for the third network, and which of them passed the thresholds of the first two."""
        boxes, scores = self._proposed(image)
        good = scores >= THRESHOLDS[0]
        windows = _squared(boxes)
        logits, offsets = self.model.rnet(_centred(crops(image, windows, WINDOWS["rnet"])))
        scores = logits.softmax(1)[:, 1]
        good = good & (scores >= THRESHOLDS[1])
        boxes = _moved(windows, offsets)
        # Windows that passed come before those that did not: else one that the detector drops could take the place of one that it keeps.
        kept = without_doubles(boxes, scores + good, above=DOUBLES[2], most=MOST[1])
        return _squared(boxes[kept]), good[kept]

    def _proposed(self, image: Float[Tensor, "3 height width"]) -> tuple[Tensor, Tensor]:
        """The best boxes of the first network over all scales."""
        side, found = WINDOWS["pnet"], []
        for small in _pyramid(image):
            logits, offsets = self.model.pnet(_centred(small)[None])
            scores = logits[0].softmax(0)[1]
            best = scores.flatten().topk(min(MOST[0], scores.numel()))
            rows, columns = best.indices // scores.shape[1], best.indices % scores.shape[1]
            corner = STRIDE * torch.stack([columns, rows], 1)
            windows = torch.cat([corner, corner + side], 1).to(image)
            scale = torch.tensor([image.shape[2] / small.shape[2], image.shape[1] / small.shape[1]] * 2).to(
                image
            )
            windows = windows * scale
            kept = without_doubles(windows, best.values, above=DOUBLES[0])
            places = offsets[0].flatten(1)[:, best.indices[kept]].T
            found.append((windows[kept], best.values[kept], places))
        windows, scores, offsets = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept = without_doubles(windows, scores, above=DOUBLES[1], most=MOST[0])
        return _moved(windows[kept], offsets[kept]), scores[kept]


def mtcnn() -> Detector:
    """MTCNN with its trained weights from the cache, in evaluation mode, on the CPU.

    Photographs go in with 320 pixels on the shorter side: faces of a sixteenth of it are found.

    Raises:
        MissingPackageError: the weights have not been fetched.
        ModelError: the weights are not those that were checked.
    """
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced at once
        networks = FaceNets()
    load_cached("mtcnn", networks)
    return face_detector(networks, weights=PUBLISHED["mtcnn"].title)


def face_detector(networks: FaceNets, *, weights: str | None = None) -> Detector:
    """The detector of these three networks."""
    return Detector(
        FaceCascade(networks.eval()),
        sizing=Sizing(shorter=320, longest=640, multiple=1),
        labels=["face"],
        name="mtcnn",
        weights=weights,
    )


def published_state(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The state of FaceNets from the three files of the published package.

    Raises:
        FetchError: not a state dict of tensors, or tensors that are missing or of another shape.
    """
    state: dict[str, Tensor] = {}
    for file, content in files.items():
        net = file.rsplit("/", 1)[-1].removesuffix(".pt")
        try:
            theirs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise FetchError(f"the weight file '{file}' holds no plain tensors: {error}") from error
        state |= {f"{net}.{ours}": theirs[name] for ours, name in _names(net)}
    for net, channels in (("rnet", 64), ("onet", 128)):
        # Theirs goes through the 3 x 3 places column by column, and through the channels fastest; ours the usual way.
        dense = state[f"{net}.dense.weight"].view(-1, 3, 3, channels)
        state[f"{net}.dense.weight"] = dense.permute(0, 3, 2, 1).flatten(1)
    return state


def _names(net: str) -> Iterator[tuple[str, str]]:
    """Our name of each tensor, and that in the file."""
    convolutions = 4 if net == "onet" else 3
    for k in range(1, convolutions + 1):
        yield f"features.prelu{k}.weight", f"prelu{k}.weight"
        for leaf in ("weight", "bias"):
            yield f"features.conv{k}.{leaf}", f"conv{k}.{leaf}"
    first = convolutions + 1
    if net != "pnet":
        yield "prelu.weight", f"prelu{first}.weight"
    for leaf in ("weight", "bias"):
        last = first if net == "pnet" else first + 1
        stem = "conv" if net == "pnet" else "dense"
        if net != "pnet":
            yield f"dense.{leaf}", f"dense{first}.{leaf}"
        yield f"face.{leaf}", f"{stem}{last}_1.{leaf}"
        yield f"box.{leaf}", f"{stem}{last}_2.{leaf}"


def _pyramid(image: Float[Tensor, "3 height width"]) -> Iterator[Tensor]:
    """The image ever smaller, until no window fits; an image below the smallest face is enlarged until one does."""
    height, width = image.shape[1:]
    scale = WINDOWS["pnet"] / min(SMALLEST_FACE, height, width)
    while True:
        size = [max(WINDOWS["pnet"], round(side * scale)) for side in (height, width)]
        yield interpolate(image[None], size, mode="area")[0]
        scale *= STEP
        if min(height, width) * scale < WINDOWS["pnet"]:
            return


def _centred(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as the networks take them: in 0..255, less 127.5, divided by 128."""
    return (pixels - 0.5) * (255 / 128)


def _moved(windows: Float[Tensor, "windows 4"], offsets: Float[Tensor, "windows 4"]) -> Tensor:
    """The boxes that offsets, in units of the windows' sides, make of windows."""
    sides = windows[:, 2:] - windows[:, :2]
    return windows + offsets * torch.cat([sides, sides], 1)


def _squared(boxes: Float[Tensor, "boxes 4"]) -> Float[Tensor, "boxes 4"]:
    """The square around the centre of each box, as long as its longer side."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)
