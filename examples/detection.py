"""Explain a face that MTCNN finds in a photograph: what docs/detection.md says, with its table and its figure.

Needs `counterpoint models fetch mtcnn` and scikit-image. Run `python examples/detection.py docs/images` to draw the figure there.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.detecting import explain_detections
from counterpoint.detectors import Detector, energy_in_box
from counterpoint.detectors.crops import map_in_region
from counterpoint.report.wording import number, percent

BLUR = cp.baselines.Blur(sigma=10)
HEADINGS = (
    "method",
    "explained",
    "follow",
    "target",
    "result",
    "error",
    "in the box",
    "deletion",
    "insertion",
)


@dataclass(frozen=True)
class Row:
    """One explanation of the face."""

    method: str
    explained: str
    follow: str
    target: float
    result: float | None
    error: float | None
    in_box: float
    deletion: float
    insertion: float

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        numbers = (number(self.target, 3), "" if self.result is None else number(self.result, 3))
        measures = (percent(self.in_box), f"{self.deletion:.2f}", f"{self.insertion:.2f}")
        return (
            self.method,
            self.explained,
            self.follow,
            *numbers,
            "" if self.error is None else percent(self.error),
            *measures,
        )


def find(*, quick: bool = False) -> list[Row]:
    """Every explanation; `quick` leaves out what takes minutes."""
    detector = cp.load_model("mtcnn")
    inputs = detector.preprocess(find_photographs(["sample:astronaut"]))
    steps = cp.quadrature.Midpoint(32)
    asked = [
        ("ODAM", cp.methods.ODAM(), "logit", "candidate"),
        ("ODAM", cp.methods.ODAM(), "score", "candidate"),
        ("integrated gradients", cp.methods.IntegratedGradients(tolerance=0.01), "logit", "candidate"),
    ]
    if not quick:
        asked += [
            ("integrated gradients, 32 steps", cp.methods.IntegratedGradients(rule=steps), "logit", "object"),
            ("occlusion, 40 px", cp.methods.Occlusion(size=40, stride=40), "score", "object"),
        ]
    return [_row(detector, inputs, *each, steps=5 if quick else 10) for each in asked]


def _row(
    detector: Detector, inputs: torch.Tensor, name: str, method: object, of: str, follow: str, *, steps: int
) -> Row:
    comparison = cp.compare(cp.detection(detector, of=of, follow=follow), inputs, baseline=BLUR)
    (face,) = comparison.bound.detections
    layer = method.level == "layer"
    attribution = (comparison.at(face.layer) if layer else comparison).explain(method)
    size = (inputs.shape[2], inputs.shape[3])
    heat = map_in_region(attribution, [face], size) if layer else attribution.heatmap()
    table = cp.metrics.curves(cp.detection(detector), inputs, {"": heat}, [BLUR], steps=steps, fold=False)
    shares = attribution.claim == "shares"
    return Row(
        method=name,
        explained=of,
        follow=follow,
        target=float(attribution.target),
        result=float(attribution.result) if shares else None,
        error=float(attribution.relative_error) if shares else None,
        in_box=float(energy_in_box(heat, [face])),
        deletion=float(table.curve("deletion").area),
        insertion=float(table.curve("insertion").area),
    )


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(folder: Path) -> Path:
    """Draw the command's own figure into a folder."""
    with tempfile.TemporaryDirectory() as out:
        (result,) = explain_detections(
            cp.load_model("mtcnn"),
            find_photographs(["sample:astronaut"]),
            baselines=[BLUR],
            methods=[cp.methods.ODAM(), cp.methods.IntegratedGradients(tolerance=0.01)],
            out=out,
        )
        target = folder / "detection.png"
        with Image.open(result.figure) as whole:
            size = (whole.width * 2 // 3, whole.height * 2 // 3)
            whole.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, optimize=True)
    return target


if __name__ == "__main__":
    print(table(find()))
    for place in sys.argv[1:]:
        print(figure(Path(place)))
