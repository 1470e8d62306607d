"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

Model = Annotated[
    str,
    typer.Option(
        help="A name from `counterpoint models`; torchvision:NAME, timm:NAME, hf:NAME; FILE.pt2; or your own: package.module:function."
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name from `counterpoint models`; torchvision:NAME, timm:NAME, hf:NAME; FILE.pt2; or package.module:function.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Weights for the model: safetensors, or a state dict that torch saved."
    ),
]
RandomWeights = Annotated[
    bool,
    typer.Option("--random-weights", help="Random weights, for a library's network: to try things out."),
]
Target = Annotated[
    str,
    typer.Option(help="The class to explain: an index, a label, or top1, the model's own first choice."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps. By default cuda where there is one, else cpu.")
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many photographs.", min=1)]
Seed = Annotated[int, typer.Option(help="Of all that is random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
USUAL_MODEL = "efficientnet_lite0"
