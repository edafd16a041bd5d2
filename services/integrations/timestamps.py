"""Times as JSON has them."""

from datetime import datetime

from chassis.logs import iso_time


def iso(at: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and Z, as in the guide's example."""
    return iso_time(at.timestamp())
