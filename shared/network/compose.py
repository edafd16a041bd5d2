"""`python -m network.compose`: what `make up`, `make certs` and `make logs` do beside calling `docker compose`."""

import argparse
import base64
import fcntl
import json
import signal
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

from network import certificates, compose_logs, containers, strategy
from network.samples import CALLERS
from network.strategy import StrategyError
from network.terminal import Terminal

QUOTE = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": "http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
_SECONDS = 15


def main() -> int:
    options = _parser().parse_args()
    code: int = options.command(options)
    return code


def _prepare(options: argparse.Namespace) -> int:
    containers.prepare(options.folder)
    made = options.folder / "certificates"
    if options.tls and not all((made / name).exists() for name in certificates.names()):
        certificates.make(made)
    return 0


def _certs(options: argparse.Namespace) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o700)
    certificates.make(options.folder / "certificates")
    print(f"certificates are in {options.folder / 'certificates'}; running services take them over")
    return 0


def _sample(options: argparse.Namespace) -> int:
    """Ask for the sample quote at a published port, and show it."""
    scheme = "https" if options.tls else "http"
    url = f"{scheme}://{options.address}/v1/quoteSourceAmount"
    name, password = next(iter(CALLERS.items()))
    credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
    request = urllib.request.Request(url, json.dumps(QUOTE).encode(), headers)  # noqa: S310 - http(s) alone
    context = _context(options.folder / "certificates") if options.tls else None
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as reply:  # noqa: S310
            status, body = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError as error:
        print(f"no answer from {url}: {error}", file=sys.stderr)
        return 1
    print(f"A quote is asked for\n  POST {url}\n  {json.dumps(QUOTE, ensure_ascii=False)}")
    print(f"The reply\n  {status}  {body.decode(errors='replace')}")
    return 0 if status == 200 else 1  # noqa: PLR2004


def _strategy(options: argparse.Namespace) -> int:
    """Make the sample strategy known to `integrations` at its published port."""
    try:
        strategy.make_known(f"http://{options.address}")
    except (StrategyError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _context(folder: Path) -> ssl.SSLContext:
    caller = folder / certificates.CALLER
    context = ssl.create_default_context(cafile=caller / "ca.pem")
    context.load_cert_chain(caller / "certificate.pem", caller / "key.pem")
    return context


def _runs(options: argparse.Namespace) -> int:
    """Exit status 0 where `make run` uses this data folder."""
    try:
        with (options.data / ".run.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    except OSError:
        pass
    return 1


def _logs(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return compose_logs.show(
            Terminal(),
            options.compose,
            trace=options.trace or None,
            service=options.service or None,
            follow=not options.no_follow,
        )
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m network.compose", description=__doc__)
    commands = parser.add_subparsers(required=True)
    prepared = argparse.ArgumentParser(add_help=False)
    prepared.add_argument("--folder", type=Path, required=True, help="folder of secrets and certificates")
    prepared.add_argument("--tls", action="store_true", help="for compose.tls.yaml")
    for name, command, told in (
        ("prepare", _prepare, "make secrets and certificates where there are none"),
        ("certs", _certs, "renew all certificates"),
        ("sample", _sample, "ask for the sample quote"),
    ):
        made = commands.add_parser(name, parents=[prepared], help=told)
        made.set_defaults(command=command)
        if command is _sample:
            made.add_argument("address", help="a published port, as `docker compose port` tells it")
    known = commands.add_parser("strategy", help="make the sample strategy known")
    known.set_defaults(command=_strategy)
    known.add_argument("address", help="the published port of integrations")
    runs = commands.add_parser("runs", help="whether `make run` uses the data folder")
    runs.add_argument("--data", type=Path, required=True)
    runs.set_defaults(command=_runs)
    logs = commands.add_parser("logs", help="follow all containers' logs")
    logs.add_argument("--trace", help="one call's way: its L1p-Trace-Id")
    logs.add_argument("--service", help="one service's log")
    logs.add_argument("--no-follow", action="store_true", help="print what is there, and end")
    logs.add_argument("compose", nargs="*", help="how compose is called: after --")
    logs.set_defaults(command=_logs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
