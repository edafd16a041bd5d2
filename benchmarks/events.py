"""`make bench-events`: measure how many events per second `integrations` delivers, and how late (lag)."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any, Final, Self

from benchmarks import report, tables
from benchmarks.about import about
from benchmarks.chains import Machine
from benchmarks.delivery_services import DEAD, LANES, Attempt, DeliveryServices, running, strategy
from benchmarks.options import Options
from benchmarks.processes import CpuSnapshot
from benchmarks.strategy_engine import VERSION, SignalSchedule, StrategyEngine
from benchmarks.targets import Target, TargetOutcome, at_least, at_most

ENDPOINTS: Final = 500
MAX_POSTERS: Final = 512
"""Maximum of POST requests that the benchmark itself sends at the same time.

A provider works on the same number of lanes at once.
"""
QUEUED_PER_SECOND: Final = {1: 200, LANES: 1}
"""Keys are numbers of lanes. Values are the events that each lane gets for each second of a round."""
TARGET_RATES: Final = {1: 500.0, LANES: 1_500.0}
LAG_SHARE: Final = 2 / 3
"""Signals are sent at this share of the target rate, or of the measured rate if it is lower, to measure the lag."""
DEAD_SHARE: Final = 1 / 3
"""Share of the target rate at which signals are sent while one endpoint does not answer ("is dead").

It is so low that the machine itself causes no lag.
"""
STRETCHES: Final = 4
"""Number of measuring periods with a dead endpoint in a round, and the same number without one, in turn.

They alternate so that other load on the machine affects both alike.
"""
TOLERANCE_MS: Final = 10.0
"""Milliseconds by which a 99th percentile may increase: a small one differs by a tenth between two runs."""


@dataclass(frozen=True)
class Lag:
    """Lag: the time from when the engine's call was due until the receiver's 200. `offered`: signals per second."""

    offered: float
    p50_ms: float
    p99_ms: float
    max_late_ms: float


@dataclass(frozen=True)
class EventsRound:
    """The results of one round. The keys are numbers of lanes, and rates are per second."""

    ceiling: dict[int, float]
    drained: dict[int, float]
    lag: dict[int, Lag]
    all_alive: Lag
    one_dead: Lag
    others_share: float


TARGETS: Final[Sequence[tuple[Target, Callable[[EventsRound], float]]]] = (
    (at_least("1,000 lanes: deliveries", TARGET_RATES[LANES], "/s"), lambda one: one.drained[LANES]),
    (at_most("1,000 lanes: p99 lag at two thirds of that", 100, " ms"), lambda one: one.lag[LANES].p99_ms),
    (at_least("1 lane: deliveries", TARGET_RATES[1], "/s"), lambda one: one.drained[1]),
    (
        at_most(
            f"one dead endpoint of 500: p99 lag of the others less {TOLERANCE_MS:.0f} ms, compared with none",
            1.1,
        ),
        lambda one: max(one.one_dead.p99_ms - TOLERANCE_MS, 0.0) / one.all_alive.p99_ms,
    ),
)


def run(options: Options) -> None:
    """Measure, print the results and write them. Raises BenchmarkError if an event was not delivered exactly once."""
    with Machine(options.data) as machine, StrategyEngine() as engine:
        on = about(machine, options, VERSION)
        with running(machine, options.data, engine) as services:
            rounds = [_round(machine, services, engine, options, n) for n in range(options.rounds)]
            counted = services.check_inbox()
    content = {"about": on, "rounds": [asdict(one) for one in rounds], "counted": counted}
    report.write(options, "events", content, described(on, rounds, counted))


def _round(
    machine: Machine, services: DeliveryServices, engine: StrategyEngine, options: Options, number: int
) -> EventsRound:
    print(f"round {number + 1}")
    before, began = _used(machine, services), time.monotonic()
    ceiling, drained, lag = {}, {}, {}
    for lanes, queued in QUEUED_PER_SECOND.items():
        name = f"{number}-{lanes}"
        ceiling[lanes] = _ceiling(services, engine, f"{name}-ceiling", lanes, options.seconds)
        drained[lanes] = rate(services.drain(f"{name}-drain", lanes, queued * options.seconds))
        machine.empty_logs()
        schedule = SignalSchedule(min(drained[lanes], TARGET_RATES[lanes]) * LAG_SHARE, options.seconds)
        samples = LagSamples().take(services, engine, f"{name}-lag", _strategies(lanes), schedule)
        lag[lanes] = samples.lag(schedule)
        print(f"{lanes} lanes: ceiling {ceiling[lanes]:.0f}/s, {drained[lanes]:.0f}/s, {lag[lanes]}")
    stretch_seconds = options.seconds / STRETCHES
    schedule = SignalSchedule(min(drained[LANES], TARGET_RATES[LANES]) * DEAD_SHARE, stretch_seconds)
    alive, dead = _beside_dead_endpoint(services, engine, number, schedule)
    print(f"without a dead endpoint {alive}, with one {dead}")
    others = _others_share(before, _used(machine, services), time.monotonic() - began)
    return EventsRound(ceiling, drained, lag, alive, dead, others)


def _ceiling(
    services: DeliveryServices, engine: StrategyEngine, name: str, lanes: int, seconds: int
) -> float:
    """Return the rate at which the receiver answers POST requests of the benchmark. No provider can deliver faster."""
    urls = [services.webhook(lane) for lane in range(min(lanes, MAX_POSTERS))]
    sent, rate_ = engine.run(engine.posts(urls, name, seconds))
    services.sent += sent
    return rate_


def _beside_dead_endpoint(
    services: DeliveryServices, engine: StrategyEngine, number: int, schedule: SignalSchedule
) -> tuple[Lag, Lag]:
    """Return the lag of the other endpoints while one endpoint answers, and while it does not ("is dead").

    The two are measured in alternating periods. After each period the dead endpoint answers until its lane is empty.
    """
    found = {False: LagSamples(), True: LagSamples()}
    for stretch in range(STRETCHES):
        for is_dead in (False, True) if (number + stretch) % 2 == 0 else (True, False):
            engine.set_dead(is_dead=is_dead)
            name = f"{number}-{stretch}-{'dead' if is_dead else 'alive'}"
            found[is_dead].take(services, engine, name, [*_strategies(ENDPOINTS - 1), DEAD], schedule)
    return found[False].lag(schedule), found[True].lag(schedule)


@dataclass
class LagSamples:
    """The lag of each event in milliseconds, in one list for each period of measuring."""

    stretches: list[list[float]] = field(default_factory=list)
    max_late_ms: float = 0.0

    def take(
        self,
        services: DeliveryServices,
        engine: StrategyEngine,
        name: str,
        strategies: Sequence[str],
        schedule: SignalSchedule,
    ) -> Self:
        """Measure one more stretch."""
        sent = engine.run(engine.signals(services.origin, name, strategies, schedule))
        engine.set_dead(is_dead=False)
        places = [number for number, strategy_ in enumerate(strategies) if strategy_ == DEAD]
        to_dead = sum(number % len(strategies) in places for number, _ in schedule.times())
        self.stretches.append(lags_ms(sent.due, services.attempts(name, sent, to_dead)))
        self.max_late_ms = max(self.max_late_ms, sent.max_late_ms)
        return self

    def lag(self, schedule: SignalSchedule) -> Lag:
        """Return the median over all periods of each period's median lag and of its 99th percentile.

        A slow provider is slow in every period, but other load on the machine affects only some periods.
        """
        cuts = [quantiles(each, n=100) for each in self.stretches]
        p50, p99 = (median(each[place] for each in cuts) for place in (49, 98))
        return Lag(*(round(each, 1) for each in (schedule.rate, p50, p99, self.max_late_ms)))


def lags_ms(due: Mapping[str, float], attempts: Iterable[Attempt]) -> list[float]:
    """Return for each attempt the milliseconds from when its signal was due until its response was complete."""
    return [(each.ended - due[each.position]) * 1e3 for each in attempts]


def rate(attempts: Sequence[Attempt]) -> float:
    """Return the deliveries per second between the start of the first request and the end of the last response."""
    began, ended = min(each.began for each in attempts), max(each.ended for each in attempts)
    return round(len(attempts) / (ended - began), 1)


def _strategies(lanes: int) -> list[str]:
    return [strategy(lane) for lane in range(lanes)]


def _used(machine: Machine, services: DeliveryServices) -> tuple[CpuSnapshot, float]:
    postgres = machine.postgres.pid
    assert postgres is not None  # noqa: S101 - it is up
    own = resource.getrusage(resource.RUSAGE_SELF)
    return CpuSnapshot.take(services.pids, postgres), own.ru_utime + own.ru_stime


def _others_share(
    before: tuple[CpuSnapshot, float], after: tuple[CpuSnapshot, float], seconds: float
) -> float:
    """Return the share, 0 to 1, of the machine's processor time that other processes than the benchmark's used."""
    processors = os.cpu_count() or 1
    spent = after[0].others_since(before[0]) - (after[1] - before[1])
    return round(max(0.0, spent) / (seconds * processors), 3)


def outcomes(rounds: Sequence[EventsRound]) -> list[TargetOutcome]:
    """Compare each target with the median of its values in all rounds."""
    return [target.outcome(median(value(one) for one in rounds)) for target, value in TARGETS]


def described(on: dict[str, Any], rounds: Sequence[EventsRound], counted: Mapping[str, int]) -> str:
    """Return the results as Markdown: rates, lags, the effect of a dead endpoint, and the targets."""
    parts = ["# Integration events", report.described(on), _noise(rounds)]
    parts += [_deliveries(rounds), _beside_dead(rounds), "## Targets"]
    parts += [tables.targets_table(outcomes(rounds)), _delivered_once(counted)]
    return report.joined(parts)


def _noise(rounds: Sequence[EventsRound]) -> str:
    shares = [one.others_share for one in rounds]
    max_late = max(
        each.max_late_ms for one in rounds for each in (*one.lag.values(), one.all_alive, one.one_dead)
    )
    return (
        f"Other processes used {median(shares):.0%} of the machine's processor time in the median round and"
        f" {max(shares):.0%} in the worst. Load, services and Postgres share the processors. The engine's own"
        f" calls were up to {max_late:,.0f} ms late, which counts as lag. The engine sends two thirds of the target"
        " rate, or of the measured rate if it is lower. Beside the dead endpoint it sends one third, in"
        f" {STRETCHES} stretches without it and {STRETCHES} with it, in turn; the table has the medians of these."
    )


def _deliveries(rounds: Sequence[EventsRound]) -> str:
    head = (
        "lanes",
        "plain POSTs/s",
        "deliveries/s",
        "of the POSTs",
        "offered/s",
        "p50 lag ms",
        "p99 lag ms",
    )
    lines = [
        (
            f"{lanes:,}",
            f"{median(one.ceiling[lanes] for one in rounds):,.0f}",
            f"{median(one.drained[lanes] for one in rounds):,.0f}",
            f"{median(one.drained[lanes] / one.ceiling[lanes] for one in rounds):.2f}",
            *_lag_cells([one.lag[lanes] for one in rounds]),
        )
        for lanes in QUEUED_PER_SECOND
    ]
    return tables.table(head, lines)


def _beside_dead(rounds: Sequence[EventsRound]) -> str:
    head = (f"{ENDPOINTS} endpoints", "offered/s", "p50 lag ms", "p99 lag ms")
    lines = [
        ("all alive", *_lag_cells([one.all_alive for one in rounds])),
        ("one dead: the others", *_lag_cells([one.one_dead for one in rounds])),
    ]
    return tables.table(head, lines)


def _lag_cells(lags: Sequence[Lag]) -> tuple[str, str, str]:
    return (
        f"{median(one.offered for one in lags):,.0f}",
        f"{median(one.p50_ms for one in lags):,.0f}",
        f"{median(one.p99_ms for one in lags):,.0f}",
    )


def _delivered_once(counted: Mapping[str, int]) -> str:
    return (
        f"Each event was carried out exactly once: {counted['sent']:,} events were sent, plain POSTs included; the"
        f" receiver's inbox has {counted['inbox']:,}; {counted['openings']:,} positions were opened,"
        f" {counted['positions']:,} of them different."
    )
