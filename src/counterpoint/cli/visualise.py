"""`counterpoint visualise`."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.loading import classifier_of
from counterpoint.cli.options import Device, Json, ModelArgument, RandomWeights, Seed, Weights
from counterpoint.terminal import console_for_results, print_json, progress_shown


@ending_well
def visualise(
    model: ModelArgument,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    layer: Annotated[
        str | None,
        typer.Option(help="The layer of the channels and units. See `counterpoint layers MODEL`."),
    ] = None,
    channel: Annotated[
        list[int] | None, typer.Option(help="A channel of the layer, mean over its places; repeatable.")
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(metavar="K,Y,X", help="Channel K of the layer at row Y and column X; repeatable."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="The logit of a class: an index or a label; repeatable."),
    ] = None,
    parametrisation: Annotated[
        Literal["fourier", "maco", "pixels"],
        typer.Option(help="How the image is written: frequencies, their phases only, or pixels."),
    ] = "fourier",
    spectrum: Annotated[
        str | None,
        typer.Option(
            metavar="bundled|pink|DIR",
            help="With maco: whose magnitudes; DIR is a folder of photographs. By default bundled.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of the optimiser.")] = 128,
    size: Annotated[int, typer.Option(help="Side of the image in pixels.")] = 320,
    seed: Seed = 0,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO",
            help="Photographs, or folders of them: which reach most of the objective; repeatable.",
        ),
    ] = None,
    device: Device = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "counterpoint-visualise"
    ),
    as_json: Json = False,
) -> int:
    """Make images that a channel, a unit or a class of a model answers to most: an image, a figure and a card (JSON) for each.

    Example: counterpoint visualise efficientnet_lite0 --layer blocks.10 --channel 7 --class goldfish
    """
    with progress_shown("getting ready"):
        from counterpoint.arguments import as_device
        from counterpoint.data.photographs import find_photographs
        from counterpoint.visualising import recipe, visualise, wanted

        asked = wanted(layer, channel or (), unit or (), classes or ())
        how = recipe(parametrisation, spectrum, size=size, steps=steps, seed=seed)
        photographs = find_photographs(compare) if compare else []
        on = as_device(device)
        classifier = classifier_of(model, weights, random_weights).to(on)
        results = visualise(classifier, asked, how, compare=photographs, out=out)
    if as_json:
        print_json({"visualisations": [{**result.facts, "folder": str(out)} for result in results]})
        return OK
    from counterpoint.report.tables import plain_table
    from counterpoint.visualising import HEADINGS, LEGEND

    console = console_for_results()
    console.print(
        plain_table(f"Images made for {classifier.name}", HEADINGS, [result.row for result in results])
    )
    console.print(LEGEND, markup=False)
    console.print(f"Images, figures and cards in {out}{os.sep}", markup=False, soft_wrap=True)
    for result in results:
        console.print(f"  {result.figure}", markup=False, soft_wrap=True)
    return OK
