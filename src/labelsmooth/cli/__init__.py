"""The command line: one file per subcommand."""

from labelsmooth.cli.main import main

__all__ = ["main"]
