"""Handlers of the API for the receiver's own users. Only the owner of an account can see it."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

import asyncpg
import orjson
from aiohttp import web

from chassis.auth import CALLER
from chassis.errors import Fault, ForbiddenError, InvalidQueryParameterError, NotFoundError
from chassis.http.body import read_json
from chassis.logs import iso_time
from chassis.queries import query_of
from chassis.schemas import parse
from chassis.users import key_of
from signal_receiver.account_repository import AccountRepository, account_not_found
from signal_receiver.accounts_file import ACCOUNT_ID
from signal_receiver.instruments import InstrumentsFile
from signal_receiver.schemas import NEW_PRICE, NEW_SECRET

MAX_TRADES: Final = 500
DEFAULT_TRADES: Final = 100
_MAX_ID: Final = 2**63 - 1
_WHOLE = re.compile(r"[1-9][0-9]{0,17}\Z")
_json: Final = partial(web.json_bytes_response, dumps=orjson.dumps)


class AccountApi:
    def __init__(
        self, repository: AccountRepository, instruments: InstrumentsFile, price_feeder: str
    ) -> None:
        self._repository = repository
        self._instruments = instruments
        self._price_feeder = price_feeder

    async def positions(self, request: web.Request) -> web.Response:
        query_of(request)
        account = await self._repository.positions(_account(request), request[CALLER])
        return _json(
            {
                "funds": _amount_text(account.funds),
                "freeFunds": _amount_text(max(account.funds - account.held, Decimal(0))),
                "positions": [_position(row) for row in account.positions],
            }
        )

    async def trades(self, request: web.Request) -> web.Response:
        query = query_of(request, "before", "limit")
        before = _whole(query, "before", _MAX_ID, _MAX_ID)
        limit = _whole(query, "limit", DEFAULT_TRADES, MAX_TRADES)
        rows = await self._repository.trades(_account(request), request[CALLER], before, limit)
        return _json({"trades": [_trade(row) for row in rows]})

    async def set_webhook_secret(self, request: web.Request) -> web.Response:
        body = parse(NEW_SECRET, await read_json(request))
        await self._repository.set_webhook_secret(_account(request), request[CALLER], body["secret"])
        return web.Response(status=204)

    async def set_price(self, request: web.Request) -> web.Response:
        if key_of(request[CALLER]) != key_of(self._price_feeder):
            raise ForbiddenError("Only the price feeder may set prices.")
        ticker = request.match_info["ticker"]
        if ticker not in self._instruments.catalogue:
            raise NotFoundError("There is no instrument with this ticker in the catalogue.")
        body = parse(NEW_PRICE, await read_json(request))
        row = await self._repository.set_price(ticker, Decimal(body["price"]))
        return _json({"ticker": ticker, "price": _amount_text(row["price"]), "at": _time_text(row["at"])})


def _account(request: web.Request) -> str:
    """Return the account id from the path. Raises NotFoundError if the text cannot be an account id."""
    id_ = request.match_info["id"]
    if not ACCOUNT_ID.match(id_):
        raise account_not_found()
    return id_


def _whole(query: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE.match(text) or int(text) > maximum:
        raise InvalidQueryParameterError(
            faults=[Fault(name, f"must be a whole number from 1 to {maximum}", text)]
        )
    return int(text)


def _position(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "strategyId": row["strategy_id"],
        "proquantPositionId": row["position_id"],
        "ticker": row["ticker"],
        "direction": row["direction"],
        "quantity": _amount_text(row["quantity"]),
        "price": _amount_text(row["price"]),
        "margin": _amount_text(row["margin"]),
        "opened": _time_text(row["opened"]),
    }


def _trade(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "action": row["action"],
        "strategyId": row["strategy_id"],
        "proquantPositionId": row["position_id"],
        "ticker": row["ticker"],
        "direction": row["direction"],
        "quantity": _amount_text(row["quantity"]),
        "price": _amount_text(row["price"]),
        "profit": None if row["profit"] is None else _amount_text(row["profit"]),
        "at": _time_text(row["at"]),
    }


def _amount_text(amount: Decimal) -> str:
    return f"{amount:f}"


def _time_text(at: datetime) -> str:
    return iso_time(at.astimezone(UTC).timestamp())
