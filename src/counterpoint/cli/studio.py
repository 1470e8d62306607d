"""`counterpoint studio`."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well, say
from counterpoint.cli.options import USUAL_MODEL, Device


@ending_well
def studio(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A name from `counterpoint models`, or your own: package.module:function; repeatable."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of photographs to choose from; from 20 on they also say what is in distribution.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="What `counterpoint bench` wrote, or a saved attribution."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A baseline with a file, such as learned:file=mine.safetensors, to choose beside the others; repeatable."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen. Anything but this machine itself needs the random token that is printed with the address."
        ),
    ] = "127.0.0.1",
    opens: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the first page in the browser.")
    ] = True,
    device: Device = None,
) -> int:
    """Look at explanations, doubt and compare them, in the browser: a local web app.

    Example: counterpoint studio --images photos
    """
    from counterpoint.studio.serving import serve
    from counterpoint.studio.settings import LOOPBACK, Settings

    serve(
        Settings(
            models=tuple(dict.fromkeys(model or (USUAL_MODEL,))),
            images=images,
            results=results,
            baselines=tuple(dict.fromkeys(baseline or ())),
            device=device,
            host=host,
            port=port,
            token=None if host in LOOPBACK else secrets.token_urlsafe(32),
        ),
        opens=opens,
        say=say,
    )
    return OK
