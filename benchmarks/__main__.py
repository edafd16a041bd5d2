"""Command line of the benchmarks. For example, `make bench` runs `python -m benchmarks run`."""

import sys
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import compare, events, growth, memory, overload
from benchmarks.errors import BenchmarkError
from benchmarks.options import Options, parse
from network.postgres import PostgresError


def _run(options: Options) -> None:
    # only this command needs the chart library
    from benchmarks import bare_and_mesh

    bare_and_mesh.run(options)


COMMANDS: Final[Mapping[str, Callable[[Options], None]]] = {
    "run": _run,
    "compare": compare.run,
    "growth": growth.run,
    "overload": overload.run,
    "memory": memory.run,
    "events": events.run,
}


def main() -> int:
    options = parse(sys.argv[1:], tuple(COMMANDS))
    try:
        COMMANDS[options.command](options)
    except (BenchmarkError, PostgresError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
