"""`counterpoint audit`."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.loading import classifier_of
from counterpoint.cli.options import USUAL_MODEL, Device, Json, Limit, Model, RandomWeights, Weights
from counterpoint.terminal import print_audit, print_json, progress_shown

AUDITED_BASELINES = (
    "zero",
    "uniform",
    "normal",
    "permutation",
    "local_mean",
    "local_permutation",
    "mean",
    "median",
    "random_color",
    "scramble_phase",
    "scramble_amplitude",
    "road",
    "black",
    "white",
    "blur",
)
RANKED_METHODS = (
    "gradient",
    "smooth_grad:samples=16",
    "gradient_times_input",
    "integrated_gradients:rule=gauss_legendre(20)",
    "grad_cam",
    "guided_backprop",
    "occlusion",
    "random_map",
)
RANKED_AGAINST = ("black", "blur")


@ending_well
def audit(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...", help="Image files, folders of them, or sample:chelsea, ... At least 3."
        ),
    ],
    model: Model = USUAL_MODEL,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A candidate, such as blur:sigma=20; repeatable. By default paper B's and a few more."
        ),
    ] = None,
    bank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO",
            help="Photographs that say what is in distribution; repeatable. By default those audited and crops of them.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Points of each path.")] = 20,
    insertion: Annotated[
        bool, typer.Option(help="Also follow the insertion path, which doubles the cost.")
    ] = True,
    rankings: Annotated[
        bool, typer.Option("--rankings", help="Rank methods under every baseline instead.")
    ] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="With --rankings: a method to rank; repeatable.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="With --rankings: what the methods compare with; repeatable. By default black and blur."
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="With --rankings: put pixels in order by their value, signed, or its size, absolute."
        ),
    ] = "signed",
    evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead: does each metric order better maps above worse? Masks by the names of the photographs, white on the evidence.",
        ),
    ] = None,
    limit: Limit = None,
    device: Device = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the results go; run again to go on there.")
    ] = Path("counterpoint-audit"),
    as_json: Json = False,
) -> int:
    """Find out which baseline to trust for a model and photographs: which removes information, and stays in distribution.

    Example: counterpoint audit photos/ --baseline black --baseline mean --baseline blur
    """
    with progress_shown("getting ready"):
        from counterpoint.arguments import as_baselines, as_device, as_methods
        from counterpoint.auditing import (
            audit_photographs,
            contenders_of,
            evidence_photographs,
            rank_photographs,
        )
        from counterpoint.data.photographs import find_photographs
        from counterpoint.errors import InputError
        from counterpoint.metrics import Bank

        chosen = as_baselines(baseline or AUDITED_BASELINES)
        if not rankings and (method or against or order != "signed"):
            raise InputError("--method, --against and --order are for --rankings.")
        if rankings and evidence is not None:
            raise InputError("--rankings and --evidence are two audits: ask for one at a time.")
        rivals = contenders_of(
            as_methods(method or RANKED_METHODS, None), as_baselines(against or RANKED_AGAINST)
        )
        paths = find_photographs(photographs)[:limit]
        bank_paths = find_photographs(bank) if bank else []
        on = as_device(device)
        classifier = classifier_of(model, weights, random_weights).to(on)
        if rankings:
            written = rank_photographs(classifier, paths, rivals, chosen, out, steps=steps, order=order)
        elif evidence is not None:
            written = evidence_photographs(classifier, paths, evidence, chosen, out, steps=steps)
        else:
            reference = (
                Bank.of(
                    classifier, classifier.preprocess(bank_paths), groups=[path.stem for path in bank_paths]
                )
                if bank_paths
                else None
            )
            written = audit_photographs(
                classifier, paths, chosen, out, steps=steps, insertion=insertion, bank=reference
            )
    if as_json:
        print_json(written.facts)
        return OK
    print_audit(written, out)
    return OK
