"""The API for the receiver's own users: an account is seen by its owner alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import asyncpg
import orjson
from aiohttp import web

from chassis.auth import CALLER
from chassis.content import read_json
from chassis.errors import Fault, ForbiddenError, InvalidQueryParameterError, NotFoundError
from chassis.logs import iso_time
from chassis.queries import query_parameters
from chassis.schemas import parse
from signal_receiver.accounts import ID
from signal_receiver.documents import NEW_PRICE, NEW_SECRET
from signal_receiver.instruments import Catalogue
from signal_receiver.store import Store, no_account

MAX_TRADES: Final = 500
USUAL_TRADES: Final = 100
_MAX_ID: Final = 2**63 - 1
_WHOLE = re.compile(r"[1-9][0-9]{0,17}\Z")


class Views:
    """Handlers; the caller is whom Basic credentials name."""

    def __init__(self, store: Store, catalogue: Catalogue, price_feeder: str) -> None:
        self._store = store
        self._catalogue = catalogue
        self._price_feeder = price_feeder

    async def positions(self, request: web.Request) -> web.Response:
        query_parameters(request.rel_url.raw_query_string, frozenset())
        found = await self._store.positions(_account(request), request[CALLER])
        return _json(
            {
                "funds": _plain(found.funds),
                "freeFunds": _plain(max(found.funds - found.held, Decimal(0))),
                "positions": [_position(row) for row in found.positions],
            }
        )

    async def trades(self, request: web.Request) -> web.Response:
        query = dict(query_parameters(request.rel_url.raw_query_string, frozenset({"before", "limit"})))
        before = _whole(query, "before", _MAX_ID, _MAX_ID)
        most = _whole(query, "limit", USUAL_TRADES, MAX_TRADES)
        rows = await self._store.trades(_account(request), request[CALLER], before, most)
        return _json({"trades": [_trade(row) for row in rows]})

    async def set_webhook_secret(self, request: web.Request) -> web.Response:
        body = parse(NEW_SECRET, await read_json(request))
        await self._store.set_webhook_secret(_account(request), request[CALLER], body["secret"])
        return web.Response(status=204)

    async def set_price(self, request: web.Request) -> web.Response:
        if request[CALLER] != self._price_feeder:
            raise ForbiddenError("Only the price feeder may do this.")
        ticker = request.match_info["ticker"]
        if ticker not in self._catalogue:
            raise NotFoundError("There is no instrument with this ticker.")
        body = parse(NEW_PRICE, await read_json(request))
        row = await self._store.set_price(ticker, Decimal(body["price"]))
        return _json({"ticker": ticker, "price": _plain(row["price"]), "at": _time(row["at"])})


def _account(request: web.Request) -> str:
    """The account's id in the path. Raises NotFoundError: what no account can be called is nobody's."""
    id_ = request.match_info["id"]
    if not ID.match(id_):
        raise no_account()
    return id_


def _whole(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return usual
    if not _WHOLE.match(text) or int(text) > most:
        raise InvalidQueryParameterError(
            faults=[Fault(name, f"must be a whole number from 1 to {most}", text)]
        )
    return int(text)


def _position(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "strategyId": row["strategy_id"],
        "proquantPositionId": row["position_id"],
        "ticker": row["ticker"],
        "direction": row["direction"],
        "quantity": _plain(row["quantity"]),
        "price": _plain(row["price"]),
        "margin": _plain(row["margin"]),
        "opened": _time(row["opened"]),
    }


def _trade(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "action": row["action"],
        "strategyId": row["strategy_id"],
        "proquantPositionId": row["position_id"],
        "ticker": row["ticker"],
        "direction": row["direction"],
        "quantity": _plain(row["quantity"]),
        "price": _plain(row["price"]),
        "profit": None if row["profit"] is None else _plain(row["profit"]),
        "at": _time(row["at"]),
    }


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"


def _time(at: datetime) -> str:
    return iso_time(at.astimezone(UTC).timestamp())


def _json(content: object) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
