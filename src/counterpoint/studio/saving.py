"""An explanation to take away: card, values and figure in one ZIP file, as the command writes them."""

import io
import json
import re
import zipfile

from counterpoint.studio.answers import Answers
from counterpoint.studio.refusals import Refused


def zipped(key: str, answers: Answers) -> tuple[str, bytes]:
    """The name and content of the file.

    Raises:
        Refused: 404, no such answer, or one that is no explanation.
    """
    card = answers.file(key, "card.json")
    values = answers.file(key, "attribution.safetensors")
    figure = answers.file(key, "figure.png")
    if card is None or values is None or figure is None:
        raise Refused(404, "there is no such explanation to save; ask for it again.")
    facts = json.loads(card)
    explanation = facts["explanations"][0]
    name = (
        plain_name((facts["photograph"] or {"file": "photograph"})["file"].rpartition(".")[0]) or "photograph"
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(facts["figure_file"], figure)
        archive.writestr(explanation["values_file"], values)
        archive.writestr(f"{name}.json", card)
    return f"{explanation['values_file'].rpartition('.')[0]}.zip", stream.getvalue()


def plain_name(text: str) -> str:
    """A text as a part of a file's name: letters, digits, and a few signs."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", text).strip("_.")[:100]
