"""Make the explanation that the studio shows before its model is loaded: Chelsea the cat, against a blurred image.

Run it from the top of the repository, and again when the numbers of integrated gradients or of the model change:

    python examples/studio_example.py src/counterpoint/studio/example
"""

import argparse
import json
import tempfile
from pathlib import Path

from PIL import Image

from counterpoint.data.photographs import sample_path
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Cell, Top
from counterpoint.studio.worker.answering import Folder
from counterpoint.studio.worker.beginning import Beginning
from counterpoint.studio.worker.explaining import cell, top
from counterpoint.studio.worker.workshop import Workshop

PHOTO, MODEL = "sample-chelsea", "efficientnet_lite0"


def main() -> None:
    """Work the example out and write what pages need of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    workshop = Workshop(
        Beginning(models=(MODEL,), baselines=(), device="cpu", results=None, bank=(), folder=folder)
    )
    question = Cell(photo=PHOTO, model=MODEL, baseline="blur", method="integrated_gradients")
    photos = {PHOTO: str(sample_path("chelsea"))}
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "cell"
        task = Task(serial=1, question=question, folder=made, photos=photos, needs={}, keys={})
        answer = cell(workshop, question, task, Folder(made))
        seen = top(workshop, Top(photo=PHOTO, model=MODEL), task, Folder(Path(place) / "top"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "map.f32").write_bytes((made / "map.f32").read_bytes())
        for name in ("photo.png", "baseline.png"):
            # 256 colours: a third of the size, and no difference that can be seen at this size.
            picture = Image.open(made / name).quantize(
                256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG
            )
            picture.save(folder / name, optimize=True)
    answer = {**answer, "question": question.model_dump(), "top": seen["top"]}
    (folder / "answer.json").write_text(
        json.dumps(answer, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:8d}  {file.name}")


if __name__ == "__main__":
    main()
