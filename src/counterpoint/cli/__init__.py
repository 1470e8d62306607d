"""The command: arguments in, exit code out.

Whatever needs torch is imported inside the commands, so that `--help` answers at once.
"""

from counterpoint.cli.command import app, main

__all__ = ["app", "main"]
