"""`counterpoint baseline`: learn one, show what is known of it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.loading import classifier_of
from counterpoint.cli.options import (
    HELP_OPTIONS,
    USUAL_MODEL,
    Device,
    Json,
    Limit,
    Model,
    RandomWeights,
    Seed,
    Weights,
)
from counterpoint.terminal import console_for_results, print_json, print_learned, progress_shown

baseline_app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    help="Learn a baseline for a model, or show what is known of a learned one.",
)


@baseline_app.command("learn")
@ending_well
def learn_baseline(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Image files, folders of them, or sample:chelsea, ... Nearly a third is kept for the report.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the baseline goes: a .safetensors file.")],
    model: Model = USUAL_MODEL,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    recipe: Annotated[
        Literal["trade-off", "published"],
        typer.Option(
            help="Ours, which learns what is used; or paper B's, which silences the layer over crops."
        ),
    ] = "trade-off",
    layer: Annotated[
        str,
        typer.Option(help="Whose output counts as features; penultimate: what the last linear layer reads."),
    ] = "penultimate",
    quick: Annotated[bool, typer.Option("--quick", help="A rough one, in a fraction of the time.")] = False,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.", min=1)] = None,
    from_photographs: Annotated[
        bool,
        typer.Option(
            "--photographs/--no-photographs",
            help="With trade-off: whether it may start from one of the photographs, and so show it.",
        ),
    ] = True,
    witness: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model, which judges distances once more.")
    ] = None,
    seed: Seed = 0,
    limit: Limit = None,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Learn a baseline for a model: an image that removes information where it is pasted, and stays in distribution.

    Use it as --baseline learned:file=FILE. Run again, a stopped run goes on.

    Example: counterpoint baseline learn photos/ --model efficientnet_lite0 --out lite0.safetensors
    """
    with progress_shown("getting ready"):
        from dataclasses import replace

        from counterpoint.arguments import as_device
        from counterpoint.baselines import PublishedRecipe, TradeOffRecipe
        from counterpoint.data.photographs import find_photographs
        from counterpoint.learning import FULL, QUICK, learn

        how = TradeOffRecipe(photographs=from_photographs) if recipe == "trade-off" else PublishedRecipe()
        how = how.quick() if quick else how
        how = how if steps is None else replace(how, steps=steps)
        paths = find_photographs(photographs)[:limit]
        on = as_device(device)
        other = None if witness is None else classifier_of(witness).to(on)
        taught = learn(
            classifier_of(model, weights, random_weights).to(on),
            paths,
            out,
            recipe=how,
            layer=layer,
            witness=other,
            seed=seed,
            effort=QUICK if quick else FULL,
        )
    if as_json:
        print_json(taught.facts)
        return OK
    print_learned(taught)
    return OK


@baseline_app.command("show")
@ending_well
def show_baseline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made by `counterpoint baseline learn`.")],
    as_json: Json = False,
) -> int:
    """Say what is known of a learned baseline: model, recipe, and its audit in words."""
    from counterpoint.baselines import Learned

    found = Learned.load(file)
    if as_json:
        print_json({"model": found.model, "sha256": found.sha256, **found.facts})
        return OK
    console = console_for_results()
    facts = found.facts
    console.print(
        f"Learned for {facts.get('learned_for')} ({found.model[:12]}), {facts.get('recipe')} recipe, seed {facts.get('seed')}, "
        f"from {facts.get('start')}.",
        markup=False,
    )
    for sentence in facts.get("audit", {}).get("words", ()):
        console.print(f"- {sentence}", markup=False)
    return OK
