"""The command line."""

from biopart.cli.entry import main

__all__ = ["main"]
