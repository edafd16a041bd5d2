"""`python -m network.compose`: commands that `make up`, `make certs` and `make logs` run beside `docker compose`."""

import argparse
import json
import ssl
import sys
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

from network import (
    certificates,
    compose_files,
    compose_logs,
    data_lock,
    http_client,
    log_options,
    sample_strategy,
)
from network.demo import AUTHORIZATION, SAMPLE
from network.log_filter import LogFilterError
from network.log_viewer import LogsNotFoundError
from network.sample_strategy import StrategyError
from network.terminal import Terminal


def main() -> int:
    options = _parser().parse_args()
    code: int = options.command(options)
    return code


def _prepare(options: argparse.Namespace) -> int:
    compose_files.prepare(options.folder)
    folder = options.folder / "certificates"
    if options.tls and not all((folder / name).exists() for name in certificates.names()):
        certificates.create(folder)
    return 0


def _certs(options: argparse.Namespace) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o700)
    certificates.create(options.folder / "certificates")
    print(f"The certificates in {options.folder / 'certificates'} are new. Running services load them now.")
    return 0


def _sample(options: argparse.Namespace) -> int:
    """Reserve the sample quote at a published port, and print the request and the reply."""
    url = f"{_origin(options)}/v1/quoteSourceAmount"
    headers = {"Content-Type": "application/json", "Authorization": AUTHORIZATION}
    body = json.dumps(SAMPLE)
    try:
        reply = http_client.send("POST", url, headers=headers, body=body.encode(), tls=_tls(options))
    except OSError as error:
        print(f"{url} does not answer: {error}", file=sys.stderr)
        return 1
    print(f"Reserve a quote\n  POST {url}\n  {body}")
    print(f"The reply\n  {reply.status}  {reply.text}")
    return 0 if reply.status == HTTPStatus.OK else 1


def _strategy(options: argparse.Namespace) -> int:
    """Register the sample strategy with `integrations` through the published port."""
    try:
        sample_strategy.register(_origin(options), str(uuid4()), _tls(options))
    except (StrategyError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _origin(options: argparse.Namespace) -> str:
    return f"{'https' if options.tls else 'http'}://{options.address}"


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    caller = options.folder / "certificates" / certificates.CALLER
    context = ssl.create_default_context(cafile=caller / "ca.pem")
    context.load_cert_chain(caller / "certificate.pem", caller / "key.pem")
    return context


def _is_running(options: argparse.Namespace) -> int:
    """Return the exit status: 0 if a `make run` uses this data folder, else 1."""
    return 0 if data_lock.is_in_use(options.data) else 1


def _logs(options: argparse.Namespace) -> int:
    log_options.end_quietly()
    try:
        return compose_logs.show(
            Terminal(),
            options.compose,
            log_options.filter_of(options),
            service=options.service or None,
            follow=options.follow == "yes",
        )
    except KeyboardInterrupt:
        return 0
    except LogFilterError as error:
        print(error, file=sys.stderr)
        return 2
    except LogsNotFoundError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m network.compose", description=__doc__)
    commands = parser.add_subparsers(required=True)
    prepared = argparse.ArgumentParser(add_help=False)
    prepared.add_argument("--folder", type=Path, required=True, help="folder of secrets and certificates")
    prepared.add_argument("--tls", action="store_true", help="for compose.tls.yaml")
    for name, command, description in (
        ("prepare", _prepare, "create missing secrets and certificates"),
        ("certs", _certs, "renew all certificates"),
        ("sample", _sample, "reserve the sample quote at a published port"),
        ("strategy", _strategy, "register the sample strategy at the published port of integrations"),
    ):
        subcommand = commands.add_parser(name, parents=[prepared], help=description)
        subcommand.set_defaults(command=command)
        if command in {_sample, _strategy}:
            subcommand.add_argument("address", help="a published port, as `docker compose port` prints it")
    is_running = commands.add_parser("is-running", help="whether a `make run` uses the data folder")
    is_running.add_argument("--data", type=Path, required=True)
    is_running.set_defaults(command=_is_running)
    logs = commands.add_parser("logs", help="follow the logs of all containers")
    log_options.add_options(logs)
    logs.add_argument("compose", nargs="*", help="the compose command, after --")
    logs.set_defaults(command=_logs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
