"""A conformance kit for any implementation of the Quote API.

It plays the payer, the payee's neighbour, or both neighbours of one hop, and checks an implementation by the sections
of the Quote API and, separately, by the stronger promises of wire.md. `python -m dfsp_quotes.conformance --help` is
the command; `run` is the same for programs.
"""

from dfsp_quotes.conformance.clock import Clock
from dfsp_quotes.conformance.html import html
from dfsp_quotes.conformance.junit import junit
from dfsp_quotes.conformance.options import Address, Credentials, Options, Part, Role
from dfsp_quotes.conformance.result import NotRunError, Outcome, Report, Result
from dfsp_quotes.conformance.run import Neighbours, neighbours, run
from dfsp_quotes.conformance.text import text

__all__ = [
    "Address",
    "Clock",
    "Credentials",
    "Neighbours",
    "NotRunError",
    "Options",
    "Outcome",
    "Part",
    "Report",
    "Result",
    "Role",
    "html",
    "junit",
    "neighbours",
    "run",
    "text",
]
