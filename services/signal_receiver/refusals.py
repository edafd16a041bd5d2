"""The nine typed errors of the guide ("Responding to Events"), and the statuses they are answered with."""

from enum import Enum
from typing import Final

import orjson

ERROR_HEADER: Final = "x-proquant-error"


class Refusal(Enum):
    """Why an event was not, or not wholly, executed: its type, the status, and what the user may be told."""

    INVALID_CREDENTIALS = "InvalidCredentials", 401, "The account could not be identified or authorized."
    UNSUPPORTED_INSTRUMENT = "UnsupportedInstrument", 422, "This instrument cannot be traded here."
    POSITION_NOT_FOUND = "PositionNotFound", 404, "The strategy has no open position here."
    POSITION_ALREADY_EXISTS = "PositionAlreadyExists", 409, "The strategy has an open position here already."
    MARKET_CLOSED = "MarketClosed", 422, "The market is closed, or there is no current price."
    QUANTITY_TOO_HIGH = "QuantityTooHigh", 422, "The quantity is above the greatest for this instrument."
    INVALID_QUANTITY_PRECISION = (
        "InvalidQuantityPrecision",
        422,
        "The quantity is no multiple of this instrument's step.",
    )
    QUANTITY_TOO_LOW = "QuantityTooLow", 422, "The quantity is below the least for this instrument."
    INSUFFICIENT_FUNDS = "InsufficientFunds", 422, "The margin exceeds the account's free funds."

    def __init__(self, type_: str, status: int, message: str) -> None:
        self.type = type_
        self.status = status
        self.message = message
        self.body = orjson.dumps({"type": type_, "message": message})


OF_TYPE: Final = {refusal.type: refusal for refusal in Refusal}
