"""Timestamps in JSON: ISO 8601 in UTC with milliseconds and "Z", as in the guide's example."""

from datetime import datetime

from chassis.logs import iso_time


def iso(at: datetime) -> str:
    return iso_time(at.timestamp())
