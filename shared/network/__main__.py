"""`python -m network run` and `python -m network logs`: what `make run` and `make logs` call."""

import argparse
import os
import signal
import sys
from pathlib import Path

from network import logs, plan
from network.run import Run
from network.terminal import Terminal


def main() -> int:
    options = _parser().parse_args()
    code: int = options.command(options)
    return code


def _run(options: argparse.Namespace) -> int:
    return Run(options.port, options.data, Terminal())(parent=options.with_parent)


def _logs(options: argparse.Namespace) -> int:
    # a closed window or a `kill` ends it as quietly as Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        logs.show(
            options.data,
            Terminal(),
            trace=options.trace or None,
            service=options.service or None,
            follow=not options.no_follow,
        )
    except KeyboardInterrupt:
        pass
    except (logs.UnknownServiceError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m network", description=__doc__)
    commands = parser.add_subparsers(required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=_folder, default=_folder(".data"), help="folder of data and logs")

    run = commands.add_parser("run", parents=[data], help="start a whole network")
    run.add_argument(
        "--port", type=_port, default=_port("8010"), help="the first service's; the others follow"
    )
    run.add_argument(
        "--with-parent",
        nargs="?",
        type=int,
        const=os.getppid(),
        metavar="PID",
        help="stop when the process that started this one ends, however it does (Linux)",
    )
    run.set_defaults(command=_run)

    show = commands.add_parser("logs", parents=[data], help="follow all services' logs")
    show.add_argument("--trace", help="one call's way: its L1p-Trace-Id")
    show.add_argument("--service", help="one service's log")
    show.add_argument("--no-follow", action="store_true", help="print what is there, and end")
    show.set_defaults(command=_logs)
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("DATA names no folder")
    return Path(text).expanduser().resolve()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"PORT is a whole number, and {text!r} is not")
    try:
        plan.check_first_port(int(text))
    except plan.PortError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
