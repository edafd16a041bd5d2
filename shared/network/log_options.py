"""The options of `make logs`, the same for `make run` and for containers."""

import argparse
import signal

from network.log_filter import LogFilter, log_filter


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", help="show only this service")
    parser.add_argument("--trace", help="show only the requests with this L1p-Trace-Id, hop by hop")
    parser.add_argument("--quote", help="show only the requests about the quote with this uuid, hop by hop")
    parser.add_argument("--since", help="show lines from this time on: 10m, 18:30 or 2026-11-21T18:30:00Z")
    parser.add_argument("--until", help="show lines until this time")
    parser.add_argument("--status", help="show only requests with these statuses: 503, 5xx or 404,5xx")
    parser.add_argument("--caller", help="show only requests of this caller, and its failed authentications")
    parser.add_argument("--error", help="show only requests with this error id, such as QuoteExpiredError")
    parser.add_argument(
        "--follow", choices=["yes", "no"], default="yes", help="no: end after the existing lines"
    )


def filter_of(options: argparse.Namespace) -> LogFilter:
    """Return the filter for the options. Raises LogFilterError."""
    return log_filter(
        since=options.since,
        until=options.until,
        status=options.status,
        caller=options.caller,
        error=options.error,
        quote=options.quote,
        trace=options.trace,
    )


def end_quietly() -> None:
    """When the window closes or `kill` ends the process, print no traceback, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
