"""Reads the query of a request's URL (wire.md §4)."""

from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from chassis.errors import Fault, InvalidQueryParameterError
from chassis.schemas import UNPRINTABLE

MAX_QUERY_PARAMETERS: Final = 10


def query_parameters(raw: str, allowed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the names and values of a query. Raises InvalidQueryParameterError, which lists all faults.

    Only the names in ``allowed`` are valid, each of them once.
    """
    if not raw:
        return ()
    try:
        pairs = parse_qsl(
            raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_QUERY_PARAMETERS
        )
    except ValueError:
        raise InvalidQueryParameterError(
            faults=[Fault("query", f"must have at most {MAX_QUERY_PARAMETERS} parameters")]
        ) from None
    faults = []
    seen: set[str] = set()
    for name, value in pairs:
        if name not in allowed:
            faults.append(Fault(name, "is not a parameter of this operation", value))
        elif name in seen:
            faults.append(Fault(name, "occurs twice", value))
        elif UNPRINTABLE.search(value):
            faults.append(Fault(name, "must be UTF-8 without control characters", value))
        seen.add(name)
    if faults:
        raise InvalidQueryParameterError(faults=faults)
    return tuple(pairs)


def query_of(request: web.BaseRequest, *allowed: str) -> dict[str, str]:
    """Return the query parameters of an aiohttp request. Raises InvalidQueryParameterError."""
    return dict(query_parameters(request.rel_url.raw_query_string, frozenset(allowed)))
