"""`counterpoint layers`."""

from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.options import Json, ModelArgument
from counterpoint.terminal import console_for_results, print_json, progress_shown


@ending_well
def layers(
    model: ModelArgument,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTO", help="The photograph to run; by default noise of the model's input size."
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """List the layers of a model: type, shape, and whether the model can be cut there."""
    with progress_shown("loading the model"):
        from counterpoint.inspection import inspect_layers
        from counterpoint.models import load_model

        found = inspect_layers(load_model(model), image)
    if as_json:
        print_json([layer.as_dict() for layer in found])
        return OK
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    rows = [
        (layer.name, layer.kind, " x ".join(map(str, layer.shape)) or "-", layer.cut_text, layer.role)
        for layer in found
    ]
    console.print(
        plain_table(f"Layers of {model}: --layer NAME", ("name", "type", "shape", "can be cut", ""), rows)
    )
    return OK
