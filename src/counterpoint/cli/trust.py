"""`counterpoint trust`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from counterpoint.cli.ending import OK, REFUSED, SOME_FAILED, ending_well, say
from counterpoint.cli.loading import classifier_of
from counterpoint.cli.options import USUAL_MODEL, Device, Json, Model, RandomWeights, Target, Weights
from counterpoint.terminal import print_json, print_verdicts, progress_shown

if TYPE_CHECKING:
    from counterpoint.one_by_one import Failed
    from counterpoint.trusting.photographs import Judged

USUAL_JUDGES = ("black", "blur", "mean")


@ending_well
def trust(
    photographs: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO...", help="Image files, folders of them, or sample:chelsea, ..."),
    ],
    model: Model = USUAL_MODEL,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    target: Target = "top1",
    score: Annotated[
        Literal["logit", "probability", "log_probability", "log_odds", "label_probability"],
        typer.Option(help="What is read of the class."),
    ] = "logit",
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="What the map compares with; repeatable. By default blur."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="What is judged; repeatable. By default integrated_gradients."),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Explain at this layer, or at 'input'; repeatable.")
    ] = None,
    bypass: Annotated[
        Literal["refuse", "intervene"],
        typer.Option(help="What to do at a layer that a skip connection passes by."),
    ] = "refuse",
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="What removed pixels become in the curves; repeatable. By default black, blur and mean."
        ),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(help="Only this check: error, curves, pathway or weights; repeatable. By default all."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Points of each curve, but one.", min=2)] = 10,
    bank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO",
            help="Photographs that say what is in distribution, or folders of them; repeatable.",
        ),
    ] = None,
    device: Device = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "counterpoint-trust"
    ),
    as_json: Json = False,
) -> int:
    """Say how far a map can be trusted: its error, its curves, the network's pathway, random weights; a verdict with reasons.

    Example: counterpoint trust cat.jpg --baseline blur --method grad_cam --method integrated_gradients
    """
    with progress_shown("getting ready"):
        from counterpoint.arguments import as_baselines, as_device, as_methods, as_target
        from counterpoint.data.photographs import find_photographs
        from counterpoint.errors import UnknownNameError
        from counterpoint.explain import photographs_for
        from counterpoint.trusting.photographs import judge_photographs
        from counterpoint.trusting.verdict import CHECKS

        for name in check or ():
            if name not in CHECKS:
                raise UnknownNameError.among("check", name, CHECKS)
        baselines, judges = as_baselines(baseline or ("blur",)), as_baselines(judge or USUAL_JUDGES)
        methods = as_methods(method or ("integrated_gradients",), None)
        paths = photographs_for(photographs, out)
        reference = find_photographs(bank) if bank else []
        on = as_device(device)
        results = judge_photographs(
            classifier_of(model, weights, random_weights).to(on),
            paths,
            target=as_target(target),
            score=score,
            baselines=baselines,
            methods=methods,
            layers=tuple(dict.fromkeys(layer or ())),
            bypass=bypass,
            judges=judges,
            checks=[each for each in CHECKS if not check or each in check],
            steps=steps,
            bank=reference,
            out=out,
        )
    return _report(results, as_json=as_json)


def _report(results: "list[Judged | Failed]", *, as_json: bool) -> int:
    from counterpoint.one_by_one import Failed
    from counterpoint.trusting.photographs import Judged

    judged = [result for result in results if isinstance(result, Judged)]
    failed = [result for result in results if isinstance(result, Failed)]
    if not judged and len(failed) == 1:
        raise failed[0].error
    if as_json:
        print_json(
            {
                "results": [{**result.facts, "figure": str(result.figure)} for result in judged],
                "failed": [{"photograph": str(f.photograph), "reason": str(f.error)} for f in failed],
            }
        )
    elif judged:
        print_verdicts(judged)
    for failure in failed:
        say(f"not judged: {failure.photograph}: {' '.join(str(failure.error).split())}")
    return OK if not failed else SOME_FAILED if judged else REFUSED
