"""`counterpoint layers`."""

from typing import TYPE_CHECKING, Annotated

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.options import Json, ModelArgument, RandomWeights, Weights
from counterpoint.terminal import console_for_results, print_json, progress_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from counterpoint.inspection import LayerFacts


@ending_well
def layers(
    model: ModelArgument,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTO", help="The photograph to run; by default noise of the model's input size."
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Show only layers inside of at most N others; 0 for the outermost."
        ),
    ] = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    as_json: Json = False,
) -> int:
    """Show the tree of layers: shape, how it lies on the image, where the model can be cut, share of compute after.

    Example: counterpoint layers resnet50 --depth 1
    """
    with progress_shown("loading the model"):
        from counterpoint.cli.loading import model_of
        from counterpoint.inspection import inspect_layers

        loaded = model_of(model, weights, random_weights)
        found = inspect_layers(loaded, image, depth=depth)
    if as_json:
        print_json([layer.as_dict() for layer in found])
        return OK
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    headings = ("layer", "type", "shape", "on the image", "can be cut", "after")
    console.print(
        plain_table(f"Layers of {loaded.name}: --layer NAME", headings, [_row(each) for each in found])
    )
    for line in _remarks(found):
        console.print(line)
    return OK


def _row(layer: "LayerFacts") -> tuple[str, ...]:
    """Indented by how many layers it is inside of; the usual ones are marked."""
    mark = " *" if layer.role else ""
    return (
        "  " * layer.depth + layer.name.rpartition(".")[2] + mark,
        layer.kind,
        " x ".join(map(str, layer.shape)) or "-",
        layer.layout or "-",
        layer.cut_text,
        "-" if layer.share_after is None else f"{layer.share_after:.0%}",
    )


def _remarks(found: "Sequence[LayerFacts]") -> list[str]:
    """The full names of the usual layers, and what the columns mean."""
    usual = [f"* {layer.role}: {layer.name}" for layer in found if layer.role]
    return [
        *usual,
        "A layer's name is the way to it, with dots: layer4.1.conv1. Several at once: --layer a+b.",
        "after: estimated share of the multiply-adds that come after the layer.",
    ]
