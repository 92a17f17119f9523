"""The command `likely`."""

from likely.cli.main import main

__all__ = ["main"]
