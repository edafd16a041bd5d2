"""Whether Postgres is the bottleneck of a service: a sentence that says yes or no, and why. No input or output."""

from dataclasses import dataclass
from typing import Final

from console import formats

BUSY_SHARE: Final = 0.8
"""If this part of a pool is busy on average, no connection is free when many requests arrive at once."""
WAIT_SECONDS: Final = 0.05
SLOW_SECONDS: Final = 0.05
TIME_SHARE: Final = 0.6
"""If a statement takes at least this part of the time of a request, it decides how long the request takes."""


@dataclass(frozen=True, kw_only=True)
class PoolFigures:
    """The connections of a service to Postgres, and its statements and requests of the last minute.

    `busy` is the mean number of connections with a statement. None stands for unknown.
    """

    service: str
    largest: float
    in_use: float | None
    idle: float | None
    busy: float | None
    waiting: float | None
    wait_p99_seconds: float | None
    statement_mean_seconds: float | None
    statement_p99_seconds: float | None
    request_mean_seconds: float | None
    request_p99_seconds: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether Postgres is the bottleneck, and why. `is_bottleneck` is None if that is not known."""

    is_bottleneck: bool | None
    sentence: str


def judge(pool: PoolFigures, *, is_ready: bool) -> Verdict:
    """Return whether Postgres is the bottleneck of the service."""
    if not is_ready:
        return Verdict(
            True,
            f"Yes: {pool.service} is not ready, so its Postgres cannot be used.",
        )
    if pool.statement_mean_seconds is None:
        return Verdict(None, f"Not known: {pool.service} has sent no statement in the last minute.")
    reasons = _reasons(pool)
    if reasons:
        return Verdict(True, f"Yes: {'; '.join(reasons)}.")
    return Verdict(False, f"No: {_calm(pool)}.")


def _reasons(pool: PoolFigures) -> list[str]:
    reasons = []
    if pool.busy is not None and pool.busy >= BUSY_SHARE * pool.largest:
        reasons.append(f"{pool.busy:.1f} of {pool.largest:.0f} connections are busy on average")
    if pool.wait_p99_seconds is not None and pool.wait_p99_seconds >= WAIT_SECONDS:
        waiting = formats.duration(pool.wait_p99_seconds)
        reasons.append(f"statements wait up to {waiting} for a connection (p99)")
    spent, whole = pool.statement_mean_seconds, pool.request_mean_seconds
    if spent is not None and whole and spent >= SLOW_SECONDS and spent >= TIME_SHARE * whole:
        reasons.append(
            f"a statement takes {formats.duration(spent)} of the {formats.duration(whole)} of a request (means)"
        )
    return reasons


def _calm(pool: PoolFigures) -> str:
    busy = formats.UNKNOWN if pool.busy is None else f"{pool.busy:.1f}"
    request = (
        f", and a request takes {formats.duration(pool.request_mean_seconds)}"
        if pool.request_mean_seconds is not None
        else ""
    )
    return (
        f"{busy} of {pool.largest:.0f} connections are busy on average, statements wait"
        f" {formats.duration(pool.wait_p99_seconds)} for one (p99), and a statement takes"
        f" {formats.duration(pool.statement_mean_seconds)} (mean; p99 {formats.duration(pool.statement_p99_seconds)}){request}"
    )
