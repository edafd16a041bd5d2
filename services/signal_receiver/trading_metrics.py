"""Metrics about trading: positions, the last trade, the age of prices (docs/metrics.md, "Trading")."""

from collections.abc import Iterator, Sequence
from typing import Final

import asyncpg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.database import Database
from signal_receiver.instruments import InstrumentsFile

TRADING: Final = """
SELECT (SELECT count(*) FROM position) AS positions,
    (SELECT extract(epoch FROM at)::float8 FROM trade ORDER BY id DESC LIMIT 1) AS last_trade
"""

PRICES: Final = """
SELECT ticker, extract(epoch FROM clock_timestamp() - at)::float8 AS age FROM price WHERE ticker = ANY($1::text[])
"""

STATEMENTS: Final = {TRADING: "count_trading", PRICES: "price_ages"}


class TradingMetrics(Collector):
    """Figures from the database, which are the same for all processes."""

    def __init__(self, database: Database, instruments: InstrumentsFile) -> None:
        self._database = database
        self._instruments = instruments
        self._trading: asyncpg.Record | None = None
        self._prices: Sequence[asyncpg.Record] = ()

    async def measure(self) -> None:
        """Measure for the next collection. Raises the errors of Database.fetch."""
        self._trading, self._prices = None, ()
        (trading,) = await self._database.fetch(TRADING)
        self._prices = await self._database.fetch(PRICES, list(self._instruments.catalogue))
        self._trading = trading

    def collect(self) -> Iterator[Metric]:
        positions = GaugeMetricFamily("positions_open", "Open positions")
        last_trade = GaugeMetricFamily("last_trade_timestamp_seconds", "Time of the last trade")
        prices = GaugeMetricFamily("price_age_seconds", "Age of an instrument's price", labels=["ticker"])
        if self._trading is not None:
            positions.add_metric([], self._trading["positions"])
            if self._trading["last_trade"] is not None:
                last_trade.add_metric([], self._trading["last_trade"])
        for row in self._prices:
            prices.add_metric([row["ticker"]], row["age"])
        yield from (positions, last_trade, prices)
