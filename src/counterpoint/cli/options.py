"""Arguments and options that several commands share."""

from typing import Annotated

import typer

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

Model = Annotated[
    str, typer.Option(help="A name from `counterpoint models`, or your own: package.module:function.")
]
ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A name from `counterpoint models`, or package.module:function."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many photographs.", min=1)]
Seed = Annotated[int, typer.Option(help="Of all that is random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
USUAL_MODEL = "efficientnet_lite0"
