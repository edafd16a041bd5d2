"""Present problems: rules over the last looks at the services. This module does no input or output."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from console.collectors.look import Health, Look
from console.collectors.samples import Labels, increases_by
from console.collectors.service_record import RECENT_SECONDS, ServiceRecord

MAX_CLEARED: Final = 20
SERVER_ERRORS: Final = 3
"""Errors with status 500 and above within RECENT_SECONDS that are a problem."""
REFUSALS: Final = 10
"""Errors with status 400 to 499 within RECENT_SECONDS that may be a problem."""
RISE: Final = 3.0
"""Such errors are a problem if they are at least this many times as frequent as in the last hour."""
OLDEST_EVENT_SECONDS: Final = 30.0
RETENTION_LAG_SECONDS: Final = 24 * 3_600.0
SHOWN_AFTER_RESTART_SECONDS: Final = 15.0
LOW_DISK_SHARE: Final = 0.05
LOW_DISK_BYTES: Final = 4 << 30
FULL_DISK_BYTES: Final = 1 << 20
DATABASE: Final = "database"
ERRORS: Final = "request_errors_total"


class Severity(IntEnum):
    """How bad a problem is: the lowest number is the worst and is shown first."""

    DOWN = 0
    DEGRADED = 1
    NOTICE = 2


STATEMENT_FAILURES: Final[Mapping[str, tuple[Severity, str, str]]] = {
    "disk_full": (Severity.DOWN, "The Postgres of {} has a full disk", "could not store anything"),
    "timeout": (Severity.DEGRADED, "Statements of {} do not end in time", "did not end in time"),
    "unavailable": (Severity.DEGRADED, "Statements of {} find no Postgres", "found no server"),
}
"""Severity, title and detail by reason."""
UsualErrors = Mapping[tuple[str, str], float]
"""Errors per second in the last hour, by service and error id."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `key` is the same at each look for as long as the problem lasts.

    `link` is a path of the console that shows more, or None.
    """

    key: str
    severity: Severity
    title: str
    detail: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class PresentProblem:
    """A problem, and the time when it began, in seconds since 1970."""

    problem: Problem
    since: float


@dataclass(frozen=True, slots=True)
class ClearedProblem:
    """A problem that has cleared. Both times are in seconds since 1970."""

    problem: Problem
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Own:
    """State of the console itself. None stands for unknown.

    `database_restarted_at` is the time when its Postgres was found restarted, in seconds since 1970. `free_bytes` and `disk_bytes` are the free space and the size of the disk that has its log file.
    """

    database_lacks: Sequence[str] = ()
    database_restarted_at: float | None = None
    free_bytes: int | None = None
    disk_bytes: int | None = None


class ProblemLog:
    """Keeps the begin of each present problem, and the last MAX_CLEARED problems that have cleared."""

    def __init__(self) -> None:
        self._present: dict[str, PresentProblem] = {}
        self.cleared: deque[ClearedProblem] = deque(maxlen=MAX_CLEARED)

    @property
    def present(self) -> list[PresentProblem]:
        """The problems of the last look, the worst first; of equally bad ones the oldest first."""
        return sorted(self._present.values(), key=lambda each: (each.problem.severity, each.since))

    def update(self, problems: Iterable[Problem], now: float) -> None:
        """Store the problems that a look has found. `now` is in seconds since 1970."""
        before, self._present = self._present, {}
        for problem in problems:
            known = before.pop(problem.key, None)
            self._present[problem.key] = PresentProblem(problem, known.since if known else now)
        self.cleared.extendleft(ClearedProblem(each.problem, each.since, now) for each in before.values())


def find_problems(
    records: Iterable[ServiceRecord], own: Own, usual: UsualErrors, now: float
) -> Iterator[Problem]:
    """Yield the problems that the last looks at the services show. `now` is in seconds since 1970."""
    yield from _of_the_console(own)
    if _is_recent(own.database_restarted_at, now):
        yield Problem(
            "console/database/restarted",
            Severity.NOTICE,
            "The console's own Postgres was restarted",
            f"It answers again. This notice stays for {SHOWN_AFTER_RESTART_SECONDS:.0f} s.",
        )
    for record in records:
        if not record.is_known:
            continue
        for look in record.looks:
            yield from _of_health(record.name, look, several=len(record.looks) > 1)
        if _is_recent(record.restarted_at, now):
            yield Problem(
                f"{record.name}/restarted",
                Severity.NOTICE,
                f"{record.name} was restarted",
                f"It answers again. This notice stays for {SHOWN_AFTER_RESTART_SECONDS:.0f} s.",
            )
        if record.health.answers:
            yield from _of_requests(record)
            yield from _of_the_database(record)
            yield from _of_webhooks(record)
            yield from _of_errors(record, usual)


def _is_recent(at: float | None, now: float) -> bool:
    return at is not None and now - at < SHOWN_AFTER_RESTART_SECONDS


def _of_the_console(own: Own) -> Iterator[Problem]:
    if own.database_lacks:
        yield Problem(
            "console/database",
            Severity.DEGRADED,
            "The console's own Postgres is away",
            f"Missing: {', '.join(own.database_lacks)}. Timelines and actions are not stored.",
        )
    if own.free_bytes is not None and own.free_bytes < min(
        LOW_DISK_SHARE * (own.disk_bytes or 0), LOW_DISK_BYTES
    ):
        is_full = own.free_bytes < FULL_DISK_BYTES
        yield Problem(
            "console/disk",
            Severity.DOWN if is_full else Severity.DEGRADED,
            "The disk of the console's log is full"
            if is_full
            else "The disk of the console's log is almost full",
            f"{own.free_bytes >> 20} MiB are free. Everything else on this disk, such as a Postgres, needs room, too.",
        )


def _of_health(name: str, look: Look, *, several: bool) -> Iterator[Problem]:
    where = f"{name} at {look.replica}" if several else name
    key, reasons = f"{name}/{look.replica}", "; ".join(look.reasons)
    if look.health is Health.AWAY:
        yield Problem(f"{key}/away", Severity.DOWN, f"{where} is away", reasons)
    elif look.health is Health.FROZEN:
        detail = f"It accepts connections but does not answer: {reasons}."
        yield Problem(f"{key}/frozen", Severity.DOWN, f"{where} is frozen", detail)
    elif look.health is Health.STOPPING:
        yield Problem(f"{key}/stopping", Severity.NOTICE, f"{where} is shutting down", "")
    elif look.health is Health.NOT_READY:
        if any(DATABASE in reason for reason in look.reasons):
            yield Problem(
                f"{key}/postgres",
                Severity.DOWN,
                f"The Postgres of {where} is away",
                f"{where} is not ready: {reasons}",
                "/database",
            )
        else:
            yield Problem(f"{key}/ready", Severity.DOWN, f"{where} is not ready", reasons)
    elif reasons:
        yield Problem(f"{key}/warning", Severity.DEGRADED, f"{where} is ready, with a warning", reasons)


def _of_requests(record: ServiceRecord) -> Iterator[Problem]:
    recent, name = record.windows(RECENT_SECONDS), record.name
    for reason, count in increases_by(recent, "requests_rejected_total", lambda has: has["reason"]).items():
        yield Problem(
            f"{name}/rejected/{reason}",
            Severity.DEGRADED,
            f"{name} rejects requests",
            f"{count:,.0f} in the last seconds, because of {reason.replace('_', ' ')}.",
        )
    for reason, count in increases_by(recent, "connections_refused_total", lambda has: has["reason"]).items():
        yield Problem(
            f"{name}/refused/{reason}",
            Severity.DEGRADED,
            f"{name} refuses connections",
            f"{count:,.0f} in the last seconds, because of its limit ({reason}).",
        )
    if (record.gauge("service_overloaded") or 0) > 0:
        yield Problem(
            f"{name}/overloaded",
            Severity.DEGRADED,
            f"{name} is overloaded",
            "It rejects requests that it would answer too late.",
        )


def _of_the_database(record: ServiceRecord) -> Iterator[Problem]:
    recent, name = record.windows(RECENT_SECONDS), record.name
    for reason, count in increases_by(recent, "database_errors_total", lambda has: has["reason"]).items():
        is_reported = (
            record.health is Health.NOT_READY and reason != "disk_full"
        )  # the problem with the readiness of the service says this already
        if reason in STATEMENT_FAILURES and not is_reported:
            severity, title, detail = STATEMENT_FAILURES[reason]
            yield Problem(
                f"{name}/statements/{reason}",
                severity,
                title.format(name),
                f"{count:,.0f} statements {detail} in the last seconds.",
                "/database",
            )
    lag = record.highest("retention_lag_seconds")
    if lag is not None and lag > RETENTION_LAG_SECONDS:
        yield Problem(
            f"{name}/retention",
            Severity.NOTICE,
            f"Retention of {name} is {lag / 3_600:,.0f} hours behind",
            "Expired quotes keep their terms for longer than configured.",
            "/database",
        )


def _of_webhooks(record: ServiceRecord) -> Iterator[Problem]:
    paused = record.highest("integrations", state="paused")
    if paused:
        yield Problem(
            f"{record.name}/paused",
            Severity.DEGRADED,
            f"{paused:,.0f} {'endpoint is' if paused == 1 else 'endpoints are'} paused",
            "Deliveries failed, so these integrations get no signals until their user resumes them.",
            "/webhooks",
        )
    oldest = record.highest("webhook_oldest_waiting_seconds", kind="signal")
    if oldest is not None and oldest > OLDEST_EVENT_SECONDS:
        waiting = record.highest("webhook_events_waiting") or 0
        yield Problem(
            f"{record.name}/backlog",
            Severity.DEGRADED,
            "Webhooks have a backlog",
            f"The oldest signal has waited for {oldest:,.0f} s; at most {waiting:,.0f} events wait.",
            "/webhooks",
        )


def _of_errors(record: ServiceRecord, usual: UsualErrors) -> Iterator[Problem]:
    """Yield the errors that this service raises; those of the next hop are the next hop's problems.

    An error with a status of 500 or above is always a problem, others if they are more frequent than usual.
    """
    recent, name = record.windows(RECENT_SECONDS), record.name
    seconds = max((each.seconds for each in recent), default=RECENT_SECONDS)
    for error, count in increases_by(recent, ERRORS, _own_error("5")).items():
        if count >= SERVER_ERRORS:
            yield Problem(
                f"{name}/errors/{error}",
                Severity.DEGRADED,
                f"{name} answers {error}",
                f"{count:,.0f} in the last {seconds:.0f} s.",
                "/callers",
            )
    for error, count in increases_by(recent, ERRORS, _own_error("4")).items():
        before = usual.get((name, error), 0.0)
        if count >= REFUSALS and count / seconds > RISE * before:
            yield Problem(
                f"{name}/errors/{error}",
                Severity.NOTICE,
                f"{error} is rising at {name}",
                f"{count / seconds:.1f} a second in the last {seconds:.0f} s, {before:.2g} a second in the hour before.",
                "/callers",
            )


def _own_error(first_digit: str) -> Callable[[Labels], str | None]:
    """Return a function that returns the id of an error which the service itself raised with such a status."""

    def error_of(labels: Labels) -> str | None:
        is_wanted = labels["origin"] == "own" and labels["status"].startswith(first_digit)
        return labels["error"] if is_wanted else None

    return error_of
