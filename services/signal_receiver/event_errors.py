"""The nine typed errors of the guide ("Responding to Events"), with their statuses."""

from enum import Enum
from typing import Final

import orjson

ERROR_HEADER: Final = "x-proquant-error"


class EventError(Enum):
    """Reason why an event was not executed, or was executed only in part: its type, status and message for the user."""

    INVALID_CREDENTIALS = "InvalidCredentials", 401, "The account could not be identified or authorized."
    UNSUPPORTED_INSTRUMENT = "UnsupportedInstrument", 422, "This instrument cannot be traded here."
    POSITION_NOT_FOUND = "PositionNotFound", 404, "The strategy does not have this position open here."
    POSITION_ALREADY_EXISTS = "PositionAlreadyExists", 409, "The strategy already has an open position here."
    MARKET_CLOSED = "MarketClosed", 422, "The market is closed, or there is no current price."
    QUANTITY_TOO_HIGH = "QuantityTooHigh", 422, "The quantity is above the maximum for this instrument."
    INVALID_QUANTITY_PRECISION = (
        "InvalidQuantityPrecision",
        422,
        "The quantity is not a multiple of this instrument's step.",
    )
    QUANTITY_TOO_LOW = "QuantityTooLow", 422, "The quantity is below the minimum for this instrument."
    INSUFFICIENT_FUNDS = "InsufficientFunds", 422, "The margin exceeds the account's free funds."

    def __init__(self, type_: str, status: int, message: str) -> None:
        self.type = type_
        self.status = status
        self.message = message
        self.body = orjson.dumps({"type": type_, "message": message})


BY_TYPE: Final = {error.type: error for error in EventError}
