"""`counterpoint explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from counterpoint.cli.ending import OK, REFUSED, SOME_FAILED, ending_well, say
from counterpoint.cli.loading import model_of
from counterpoint.cli.options import USUAL_MODEL, Device, Json, Model, RandomWeights, Target, Weights
from counterpoint.cli.scoring import Asked
from counterpoint.terminal import print_detections, print_json, print_results, progress_shown

if TYPE_CHECKING:
    from counterpoint.detectors import Detector
    from counterpoint.explain import Explained
    from counterpoint.one_by_one import Failed

USUAL_BASELINES = ("black", "blur", "mean")
USUAL_METHODS = ("integrated_gradients",)
_INCOMPLETE = (
    "No baseline was given, and a score can only be explained compared with something: here are three answers, "
    "against black, blur and mean. Choose yours with --baseline."
)

# For detectors, which cost more to run, and where the published method compares with zero features.
USUAL_DETECTION_BASELINES = ("blur",)
USUAL_DETECTION_METHODS = ("odam",)
_INCOMPLETE_DETECTION = (
    "No baseline was given, and a score can only be explained compared with something: here it is a blurred picture. "
    "Choose yours with --baseline."
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
    weights: Weights = None,
    random_weights: RandomWeights = False,
    target: Target = "top1",
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
        Literal["refuse", "intervene"] | None,
        typer.Option(
            help="What to do at a layer that a skip connection passes by. By default refuse; for detectors intervene."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Relative error to reach, for integrated_gradients without a rule. By default 0.01."
        ),
    ] = None,
    score: Annotated[
        Literal[
            "logit", "probability", "log_probability", "log_odds", "label_probability", "x0", "y0", "x1", "y1"
        ],
        typer.Option(
            help="What is read of the class; of a detection logit, probability, or a side of its box."
        ),
    ] = "logit",
    region: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Of a segmentation: predicted, where the class wins; all; or a box y0,x0,y1,x1 in pixels of the model's input.",
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(
            metavar="INDEX", help="Instead of a class: this number of the output, as 0 or 0,120,80."
        ),
    ] = None,
    similar_to: Annotated[
        str | None,
        typer.Option(
            metavar="PHOTO",
            help="Instead of a class: how alike the model's outputs are to those of this photograph.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Which part of the model's output holds the class scores, where it has several: a key, a field or an index."
        ),
    ] = None,
    detections: Annotated[
        int, typer.Option(help="How many detections of each photograph, for detectors.", min=1)
    ] = 3,
    device: Device = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "counterpoint-out"
    ),
    as_json: Json = False,
) -> int:
    """Explain photographs: for each a figure (PNG), a card (JSON) and the values (safetensors).

    Example: counterpoint explain cat.jpg --baseline blur:sigma=20 --method integrated_gradients
    """
    with progress_shown("getting ready"):
        from counterpoint.arguments import as_baselines, as_device, as_methods, as_target
        from counterpoint.detectors import Detector
        from counterpoint.errors import InputError
        from counterpoint.explain import explain_photographs, photographs_for

        # What costs little is checked first: names and numbers before files, files before the model.
        baselines, methods = (
            as_baselines(baseline or ()),
            as_methods(method or (), tolerance if method else None),
        )
        paths = photographs_for(photographs, out)
        on = as_device(device)
        asked = Asked.of(region, value, similar_to)
        loaded = model_of(model, weights, random_weights).to(on)
        layers = tuple(dict.fromkeys(layer or ()))
        if isinstance(loaded, Detector):
            if output is not None or asked is not None:
                what = "--output" if asked is None else asked.option
                raise InputError(
                    f"{what} is of models with outputs for the whole image, but '{model}' is a detector, which returns detections."
                )
            note = "" if baseline else _INCOMPLETE_DETECTION
            results = _explain_detections(
                loaded,
                paths,
                score=score,
                label=None if target == "top1" else as_target(target),
                detections=detections,
                baselines=baselines or as_baselines(USUAL_DETECTION_BASELINES),
                methods=methods or as_methods(USUAL_DETECTION_METHODS, tolerance),
                layers=layers,
                bypass=bypass or "intervene",
                out=out,
                note=note,
            )
        else:
            if score == "x0" or score == "y0" or score == "x1" or score == "y1":
                raise InputError(
                    f"--score {score} is a side of a detection's box, but '{model}' is no detector."
                )
            note = "" if baseline else _INCOMPLETE
            classifier = loaded if output is None else loaded.with_output(as_target(output))
            results = explain_photographs(
                classifier,
                paths,
                target=as_target(target),
                score=score if asked is None else asked.score(classifier, as_target(target), score),
                baselines=baselines or as_baselines(USUAL_BASELINES),
                methods=methods or as_methods(USUAL_METHODS, tolerance),
                layers=layers,
                bypass=bypass or "refuse",
                out=out,
                note=note,
            )
    detector = isinstance(loaded, Detector)
    return _report_results(
        results, out=out, note=note, as_json=as_json, chosen_layer=bool(layer), detector=detector
    )


def _explain_detections(
    detector: "Detector", paths: list[Path], *, score: str, **settings: Any
) -> "list[Explained | Failed]":
    from counterpoint.detecting import explain_detections
    from counterpoint.errors import InputError

    of: Any = {"probability": "score"}.get(score, score)
    if of in ("log_probability", "log_odds"):
        raise InputError(
            f"--score {score} is of classifiers; of a detection it is logit, probability, x0, y0, x1 or y1."
        )
    return explain_detections(detector, paths, of=of, **settings)


def _report_results(
    results: "list[Explained | Failed]",
    *,
    out: Path,
    note: str,
    as_json: bool,
    chosen_layer: bool,
    detector: bool,
) -> int:
    from counterpoint.explain import Explained
    from counterpoint.one_by_one import Failed

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
    elif explained and detector:
        print_detections(explained, out=out, note=note)
    elif explained:
        print_results(explained, out=out, note=note, chosen_layer=chosen_layer)
    for failure in failed:
        say(f"not explained: {failure.photograph}: {' '.join(str(failure.error).split())}")
    if failed:
        say(f"{len(failed)} of {len(results)} photographs could not be explained.")
    return OK if not failed else SOME_FAILED if explained else REFUSED
