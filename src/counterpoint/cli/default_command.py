"""A group of commands of which one need not be named: `bench SPEC.toml` means `bench run SPEC.toml`."""

from typing import Any

from typer.core import TyperGroup

DEFAULT = "run"


class DefaultCommand(TyperGroup):
    """A group whose command `run` is meant where the first word is no other command's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name in where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed
