"""`counterpoint explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from counterpoint.cli.ending import OK, REFUSED, SOME_FAILED, ending_well, say
from counterpoint.cli.options import USUAL_MODEL, Device, Json, Model
from counterpoint.terminal import print_json, print_results, progress_shown

if TYPE_CHECKING:
    from counterpoint.explain import Explained, Failed

USUAL_BASELINES = ("black", "blur", "mean")
USUAL_METHODS = ("integrated_gradients",)
_INCOMPLETE = (
    "No baseline was given, and a score can only be explained compared with something: here are three answers, "
    "against black, blur and mean. Choose yours with --baseline."
)


@ending_well
def explain(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...", help="Image files, folders of them, or sample:chelsea, sample:coffee, ..."
        ),
    ],
    model: Model = USUAL_MODEL,
    target: Annotated[
        str,
        typer.Option(help="The class to explain: an index, a label, or top1, the model's own first choice."),
    ] = "top1",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare with, such as blur:sigma=20; repeatable. See `counterpoint baselines`."
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="How to explain; repeatable. See `counterpoint methods`. By default integrated_gradients."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain at this layer, or at 'input'; repeatable. See `counterpoint layers MODEL`."
        ),
    ] = None,
    bypass: Annotated[
        Literal["refuse", "intervene"],
        typer.Option(help="What to do at a layer that a skip connection passes by."),
    ] = "refuse",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Relative error to reach, for integrated_gradients without a rule. By default 0.01."
        ),
    ] = None,
    score: Annotated[
        Literal["logit", "probability", "log_probability", "log_odds"],
        typer.Option(help="What is read of the class."),
    ] = "logit",
    device: Device = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "counterpoint-out"
    ),
    as_json: Json = False,
) -> int:
    """Explain photographs: for each a figure (PNG), a card (JSON) and the values (safetensors).

    Example: counterpoint explain cat.jpg --baseline blur:sigma=20 --method integrated_gradients
    """
    note = "" if baseline else _INCOMPLETE
    with progress_shown("getting ready"):
        from counterpoint.arguments import as_baselines, as_device, as_methods, as_target
        from counterpoint.explain import explain_photographs, photographs_for
        from counterpoint.models import load_model

        # What costs little is checked first: names and numbers before files, files before the model.
        baselines = as_baselines(baseline or USUAL_BASELINES)
        methods = as_methods(method or USUAL_METHODS, tolerance)
        paths = photographs_for(photographs, out)
        on = as_device(device)
        results = explain_photographs(
            load_model(model).to(on),
            paths,
            target=as_target(target),
            score=score,
            baselines=baselines,
            methods=methods,
            layers=tuple(dict.fromkeys(layer or ())),
            bypass=bypass,
            out=out,
            note=note,
        )
    return _report_results(results, out=out, note=note, as_json=as_json, chosen_layer=bool(layer))


def _report_results(
    results: "list[Explained | Failed]", *, out: Path, note: str, as_json: bool, chosen_layer: bool
) -> int:
    from counterpoint.explain import Explained, Failed

    explained = [result for result in results if isinstance(result, Explained)]
    failed = [result for result in results if isinstance(result, Failed)]
    if len(results) == 1 and failed:
        raise failed[0].error
    if as_json:
        print_json(
            {
                "results": [{**result.facts, "folder": str(out)} for result in explained],
                "failed": [{"photograph": str(f.photograph), "reason": str(f.error)} for f in failed],
                "note": note,
            }
        )
    elif explained:
        print_results(explained, out=out, note=note, chosen_layer=chosen_layer)
    for failure in failed:
        say(f"not explained: {failure.photograph}: {' '.join(str(failure.error).split())}")
    if failed:
        say(f"{len(failed)} of {len(results)} photographs could not be explained.")
    return OK if not failed else SOME_FAILED if explained else REFUSED
