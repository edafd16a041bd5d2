"""A signal in the form in which the strategy engine sends it. Pure: no I/O."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from integrations.events import SignalData, StrategyData


@dataclass(frozen=True, slots=True)
class EngineSignal:
    """A signal of the strategy engine. Its `strategy_id` and `signal_id` together identify it."""

    strategy_id: str
    signal_id: str
    type: str
    direction: str
    ticker: str
    quantity: str
    position_id: str
    trace_id: str = ""
    """Trace id of the request that sent the signal. It is no part of the signal's meaning."""

    @property
    def key(self) -> tuple[str, str]:
        return self.strategy_id, self.signal_id

    @property
    def event_type(self) -> str:
        return f"SIGNAL_{self.type}"

    def fingerprint(self) -> bytes:
        """Return a digest of the signal.

        It is equal for signals that mean the same: the quantity 10 is the same as 10.0.
        """
        quantity = f"{Decimal(self.quantity).normalize():f}"
        parts = (self.type, self.direction, self.ticker, quantity, self.position_id)
        return hashlib.sha256("".join(f"{len(each)}:{each}" for each in parts).encode()).digest()

    def data(self, strategy_name: str) -> str:
        """Return the event's data as JSON."""
        signal = SignalData(
            self.direction,
            self.ticker,
            msgspec.Raw(self.quantity.encode()),
            StrategyData(self.strategy_id, strategy_name),
            self.position_id,
        )
        return msgspec.json.encode(signal).decode()


def engine_signal(strategy_id: str, body: Mapping[str, Any], trace_id: str = "") -> EngineSignal:
    return EngineSignal(
        strategy_id,
        body["signalId"],
        body["type"],
        body["direction"],
        body["ticker"],
        body["quantity"],
        body["proquantPositionId"],
        trace_id,
    )
