"""The command: arguments in, exit code out.

Exit codes: 0 all went well; 1 some photographs of several could not be explained; 2 the request cannot be carried out (one line says why);
130 interrupted. Anything else is a bug, with its traceback.

Whatever needs torch is imported inside the commands, so that `--help` answers at once.
"""

import json
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
from counterpoint.errors import CounterpointError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from counterpoint.explain import Explained, Failed
    from counterpoint.protocols import Baseline, Method

OK, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
USUAL_BASELINES = ("black", "blur", "mean")
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
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]


def main() -> None:
    """Run the command line."""
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
            help="How to explain; repeatable. See `counterpoint methods`.  [default: integrated_gradients]"
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain at this layer, or at 'input'; repeatable. See `counterpoint layers MODEL`."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Relative error to reach, for integrated_gradients without a rule.  [default: 0.01]"
        ),
    ] = None,
    score: Annotated[
        Literal["logit", "probability", "log_odds"], typer.Option(help="What is read of the class.")
    ] = "logit",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps.  [default: cuda where there is one, else cpu]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go.")] = Path(
        "counterpoint-out"
    ),
    as_json: Json = False,
) -> int:
    """Explain photographs: for each a figure (PNG), a card (JSON) and the values (safetensors).

    Example: counterpoint explain cat.jpg --baseline blur:sigma=20 --method integrated_gradients
    """
    with _shown_progress("getting ready"):
        from counterpoint.explain import explain_photographs, photographs_for
        from counterpoint.models import load_model

        # What costs little is checked first: names and numbers before files, files before the model.
        baselines = _baselines(baseline)
        methods = _methods(method, tolerance)
        paths = photographs_for(photographs, out)
        on = _device(device)
        results = explain_photographs(
            load_model(model).to(on),
            paths,
            target=_target(target),
            score=score,
            baselines=baselines,
            methods=methods,
            layers=tuple(dict.fromkeys(layer or ())),
            out=out,
            note="" if baseline else _INCOMPLETE,
        )
    return _report_results(
        results, out=out, note="" if baseline else _INCOMPLETE, as_json=as_json, chosen_layer=bool(layer)
    )


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


@app.command()
@_ending_well
def models(as_json: Json = False) -> int:
    """List the models that can be asked for by name."""
    from counterpoint.models import MODELS

    if as_json:
        _print_json([{"name": name, "summary": m.summary, "source": m.source} for name, m in MODELS.items()])
        return OK
    from counterpoint.report.tables import plain_table

    console = _console()
    rows = [(name, model.summary, model.source) for name, model in MODELS.items()]
    console.print(
        plain_table("Models: --model NAME", ("name", "what it is", "where the weights come from"), rows)
    )
    console.print(
        "A model of your own: --model package.module:function, which returns a counterpoint.Classifier."
    )
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
    with _shown_progress("loading the model"):
        from counterpoint.inspection import inspect_layers
        from counterpoint.models import load_model

        found = inspect_layers(load_model(model), image)
    if as_json:
        _print_json([layer.as_dict() for layer in found])
        return OK
    from counterpoint.report.tables import plain_table

    console = _console()
    rows = [
        (layer.name, layer.kind, " x ".join(map(str, layer.shape)) or "-", layer.cut_text, layer.role)
        for layer in found
    ]
    console.print(
        plain_table(f"Layers of {model}: --layer NAME", ("name", "type", "shape", "can be cut", ""), rows)
    )
    return OK


def _baselines(texts: list[str] | None) -> "list[Baseline]":
    from counterpoint import spec

    return [spec.build("baseline", text) for text in texts or USUAL_BASELINES]


def _methods(texts: list[str] | None, tolerance: float | None) -> "list[Method]":
    """The methods, with `--tolerance` where they take it and state none of their own."""
    from dataclasses import replace

    from counterpoint import spec
    from counterpoint.methods import IntegratedGradients

    texts = texts or ["integrated_gradients"]
    built: list[Method] = [spec.build("method", text) for text in texts]
    if tolerance is None:
        return built
    takes = [
        isinstance(method, IntegratedGradients)
        and method.rule is None
        and "tolerance" not in text.partition(":")[2]
        for text, method in zip(texts, built, strict=True)
    ]
    if not any(takes):
        raise InputError(
            "--tolerance is for integrated_gradients without a rule or a tolerance of its own; no --method is one."
        )
    return [replace(m, tolerance=tolerance) if t else m for m, t in zip(built, takes, strict=True)]  # type: ignore[type-var]


def _target(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"--device '{name}' cannot be used here: {reason}") from error
    return name


def _report_results(
    results: "list[Explained | Failed]", *, out: Path, note: str, as_json: bool, chosen_layer: bool
) -> int:
    from counterpoint.explain import Explained, Failed

    explained = [result for result in results if isinstance(result, Explained)]
    failed = [result for result in results if isinstance(result, Failed)]
    if len(results) == 1 and failed:
        raise failed[0].error
    if as_json:
        _print_json(
            {
                "results": [{**result.facts, "folder": str(out)} for result in explained],
                "failed": [{"photograph": str(f.photograph), "reason": str(f.error)} for f in failed],
                "note": note,
            }
        )
    elif explained:
        _print_results(explained, out=out, note=note, chosen_layer=chosen_layer)
    for failure in failed:
        _say(f"not explained: {failure.photograph}: {' '.join(str(failure.error).split())}")
    if failed:
        _say(f"{len(failed)} of {len(results)} photographs could not be explained.")
    return OK if not failed else SOME_FAILED if explained else REFUSED


def _print_results(explained: "list[Explained]", *, out: Path, note: str, chosen_layer: bool) -> None:
    from counterpoint.report.tables import results_remarks, results_table

    console = _console()
    cards = [result.facts for result in explained]
    console.print(results_table(cards))
    for remark in results_remarks(cards):
        console.print(remark, markup=False)
    layers = {e["layer"] for card in cards for e in card["explanations"]} - {"input"}
    if layers and not chosen_layer:
        console.print(
            f"No --layer was given: '{', '.join(sorted(layers))}' is the model's last layer with maps.",
            markup=False,
        )
    if note:
        console.print(note, markup=False)
    # Not wrapped by us: a path that is broken in two cannot be copied.
    count = f"{len(explained)} figure{'s' if len(explained) > 1 else ''}, with cards and values, in"
    console.print(f"{count} {out}{os.sep}", markup=False, soft_wrap=True)
    for result in explained[:10]:
        console.print(f"  {result.figure}", markup=False, soft_wrap=True)


def _list_entries(kind: Literal["method", "baseline"], title: str, as_json: bool) -> int:
    from counterpoint.report.catalogue import entries

    found = entries(kind)
    if as_json:
        _print_json([entry.as_dict() for entry in found])
        return OK
    from counterpoint.report.tables import entries_table

    _console().print(entries_table(found, title))
    return OK


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def _console() -> "Console":
    from rich.console import Console

    # Without a terminal nobody can widen the window: room enough that nothing is cut short.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, highlight=False)


def _say(line: str) -> None:
    typer.echo(line, err=True)


@contextmanager
def _shown_progress(what: str) -> Iterator[None]:
    """Show progress on stderr: a bar in a terminal, elsewhere a line every ten seconds."""
    from counterpoint.terminal import progress_shown

    with progress_shown(what):
        yield


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
