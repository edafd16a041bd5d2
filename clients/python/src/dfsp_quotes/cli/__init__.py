"""`quotes`: the command line of the Quote API (docs/command-line.md). It needs the extra `cli`."""

import sys

_EXTRA = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        # typer and rich come with the extra alone
        from dfsp_quotes.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.stderr.write("error: quotes needs its extra: python -m pip install 'dfsp-quotes[cli]'\n")
        sys.exit(2)
    sys.exit(run())
