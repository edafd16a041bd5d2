"""`python -m network COMMAND`: `make run`, `make logs`, `make status`, `make restart` and `make reload` call it."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from network import log_options, log_viewer, operations, topology
from network.control import ControlError
from network.log_filter import LogFilterError
from network.log_viewer import LogsNotFoundError, TerminalOutput
from network.run import NetworkRun
from network.terminal import Terminal


def main() -> int:
    options = _parser().parse_args()
    code: int = options.command(options)
    return code


def _run(options: argparse.Namespace) -> int:
    return NetworkRun(options.port, options.data, Terminal())(parent=options.with_parent)


def _logs(options: argparse.Namespace) -> int:
    log_options.end_quietly()
    try:
        wanted = log_options.filter_of(options)
        log_viewer.show(
            options.data,
            TerminalOutput(Terminal(), by_trace=wanted.is_by_trace),
            wanted,
            service=options.service or None,
            follow=options.follow == "yes",
        )
    except KeyboardInterrupt:
        pass
    except LogFilterError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (LogsNotFoundError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _operation(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except KeyboardInterrupt:
            return 130
        except ControlError as error:
            sys.stderr.write(f"{error}\n")
            return 1

    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m network", description=__doc__)
    commands = parser.add_subparsers(required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=_folder, default=_folder(".data"), help="folder of data and logs")

    run = commands.add_parser("run", parents=[data], help="start a whole network")
    run.add_argument(
        "--port", type=_port, default=_port("8010"), help="port of the first service; the others follow"
    )
    run.add_argument(
        "--with-parent",
        nargs="?",
        type=int,
        const=os.getppid(),
        metavar="PID",
        help="stop when the process that started this one ends (Linux)",
    )
    run.set_defaults(command=_run)

    status = commands.add_parser("status", parents=[data], help="list the processes of a network")
    status.set_defaults(command=_operation(lambda options: operations.status(options.data, Terminal())))
    restart = commands.add_parser("restart", parents=[data], help="restart a service of a network")
    restart.add_argument("service", help="name of the service")
    restart.set_defaults(
        command=_operation(lambda options: operations.restart(options.data, options.service, Terminal()))
    )
    reload = commands.add_parser("reload", parents=[data], help="let every service read its files again")
    reload.set_defaults(command=_operation(lambda options: operations.reload(options.data, Terminal())))

    logs = commands.add_parser("logs", parents=[data], help="follow the logs of all services")
    log_options.add_options(logs)
    logs.set_defaults(command=_logs)
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("DATA is empty; it must name a folder")
    return Path(text).expanduser().resolve()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"PORT must be a whole number, such as 8010; {text!r} is not")
    try:
        topology.check_first_port(int(text))
    except topology.PortError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
