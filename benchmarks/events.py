"""`make bench-events`: deliveries a second and their lag, of both integration services as `make run` starts them."""

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
from benchmarks.engine import VERSION, Offer, Outside
from benchmarks.options import Options
from benchmarks.processes import Snapshot
from benchmarks.provider import DEAD, LANES, Attempt, Provider, running, strategy
from benchmarks.targets import Outcome, Target, least, most

ENDPOINTS: Final = 500
CALLERS: Final = 512
"""Of the ceiling: as many as a provider works on lanes at once."""
EACH_A_SECOND: Final = {1: 200, LANES: 1}
"""Events queued in each lane for each second that is asked for."""
AIMED: Final = {1: 500.0, LANES: 1_500.0}
SHARE: Final = 2 / 3
"""Of the rate that is aimed at, or of the one reached where that is less: this lag is looked at."""
DEAD_SHARE: Final = 1 / 3
"""Of the same: the other lanes' lag is not to be that of a full machine."""
STRETCHES: Final = 4
"""Of those without and those with the dead endpoint, in turn: what else the machine does meets both alike."""
SLACK_MS: Final = 10.0
"""A p99 of few milliseconds differs by a tenth from one run to the next."""


@dataclass(frozen=True)
class Lag:
    """From when the engine's call was due to the receiver's 200."""

    offered: float
    p50_ms: float
    p99_ms: float
    max_late_ms: float


@dataclass(frozen=True)
class Round:
    """One of each; rates are a second, by the number of lanes."""

    ceiling: dict[int, float]
    drained: dict[int, float]
    lag: dict[int, Lag]
    all_alive: Lag
    one_dead: Lag
    others_share: float


TARGETS: Final[Sequence[tuple[Target, Callable[[Round], float]]]] = (
    (least("1,000 lanes: deliveries", AIMED[LANES], "/s"), lambda one: one.drained[LANES]),
    (most("1,000 lanes: p99 lag at two thirds of that", 100, " ms"), lambda one: one.lag[LANES].p99_ms),
    (least("1 lane: deliveries", AIMED[1], "/s"), lambda one: one.drained[1]),
    (
        most(f"one dead endpoint of 500: the others' p99 lag less {SLACK_MS:.0f} ms, to that without", 1.1),
        lambda one: max(one.one_dead.p99_ms - SLACK_MS, 0.0) / one.all_alive.p99_ms,
    ),
)


def run(options: Options) -> None:
    with Machine(options.data) as machine, Outside() as outside:
        on = about(machine, options, VERSION)
        with running(machine, options.data, outside) as provider:
            rounds = [_round(machine, provider, outside, options, n) for n in range(options.rounds)]
            counted = provider.check_inbox()
    content = {"about": on, "rounds": [asdict(one) for one in rounds], "counted": counted}
    report.write(options, "events", content, described(on, rounds, counted))


def _round(machine: Machine, provider: Provider, outside: Outside, options: Options, number: int) -> Round:
    print(f"round {number + 1}")
    before, began = _used(machine, provider), time.monotonic()
    ceiling, drained, lag = {}, {}, {}
    for lanes, each in EACH_A_SECOND.items():
        run_ = f"{number}-{lanes}"
        ceiling[lanes] = _ceiling(provider, outside, f"{run_}-ceiling", lanes, options.seconds)
        drained[lanes] = rate(provider.drain(f"{run_}-drain", lanes, each * options.seconds))
        machine.empty_logs()
        offer = Offer(min(drained[lanes], AIMED[lanes]) * SHARE, options.seconds)
        lag[lanes] = Late().take(provider, outside, f"{run_}-lag", _strategies(lanes), offer).lag(offer)
        print(f"{lanes} lanes: ceiling {ceiling[lanes]:.0f}/s, {drained[lanes]:.0f}/s, {lag[lanes]}")
    offer = Offer(min(drained[LANES], AIMED[LANES]) * DEAD_SHARE, options.seconds / STRETCHES)
    alive, dead = _dead(provider, outside, number, offer)
    print(f"without a dead endpoint {alive}, with one {dead}")
    others = _others(before, _used(machine, provider), time.monotonic() - began)
    return Round(ceiling, drained, lag, alive, dead, others)


def _ceiling(provider: Provider, outside: Outside, run_: str, lanes: int, seconds: int) -> float:
    urls = [provider.webhook(lane) for lane in range(min(lanes, CALLERS))]
    sent, rate = outside.run(outside.posts(urls, run_, seconds))
    provider.sent += sent
    return rate


def _dead(provider: Provider, outside: Outside, number: int, offer: Offer) -> tuple[Lag, Lag]:
    """Without and with it, in turn; after each stretch it lives until its lane is empty."""
    found = {False: Late(), True: Late()}
    for stretch in range(STRETCHES):
        for is_dead in (False, True) if (number + stretch) % 2 == 0 else (True, False):
            outside.set_dead(is_dead=is_dead)
            run = f"{number}-{stretch}-{'dead' if is_dead else 'alive'}"
            found[is_dead].take(provider, outside, run, [*_strategies(ENDPOINTS - 1), DEAD], offer)
    return found[False].lag(offer), found[True].lag(offer)


@dataclass
class Late:
    """How late events were, by stretch."""

    stretches: list[list[float]] = field(default_factory=list)
    max_late_ms: float = 0.0

    def take(
        self, provider: Provider, outside: Outside, run: str, strategies: Sequence[str], offer: Offer
    ) -> Self:
        offered = outside.run(outside.signals(provider.origin, run, strategies, offer))
        outside.set_dead(is_dead=False)
        places = [number for number, name in enumerate(strategies) if name == DEAD]
        to_dead = sum(number % len(strategies) in places for number, _ in offer.times())
        self.stretches.append(late(offered.due, provider.offered(run, offered, to_dead)))
        self.max_late_ms = max(self.max_late_ms, offered.max_late_ms)
        return self

    def lag(self, offer: Offer) -> Lag:
        """The median and the 99th percentile of each stretch, and of these the median.

        What is slowed is so in every stretch; what else the machine does falls into one or another.
        """
        cuts = [quantiles(each, n=100) for each in self.stretches]
        p50, p99 = (median(each[place] for each in cuts) for place in (49, 98))
        return Lag(*(round(each, 1) for each in (offer.rate, p50, p99, self.max_late_ms)))


def late(due: Mapping[str, float], attempts: Iterable[Attempt]) -> list[float]:
    """Milliseconds from when each call was due to the answer's end."""
    return [(each.ended - due[each.position]) * 1e3 for each in attempts]


def rate(attempts: Sequence[Attempt]) -> float:
    """Deliveries a second, from the first request to the last answer."""
    began, ended = min(each.began for each in attempts), max(each.ended for each in attempts)
    return round(len(attempts) / (ended - began), 1)


def _strategies(lanes: int) -> list[str]:
    return [strategy(lane) for lane in range(lanes)]


def _used(machine: Machine, provider: Provider) -> tuple[Snapshot, float]:
    postgres = machine.postgres.pid
    assert postgres is not None  # noqa: S101 - it was waited for
    own = resource.getrusage(resource.RUSAGE_SELF)
    return Snapshot.take(provider.pids, postgres), own.ru_utime + own.ru_stime


def _others(before: tuple[Snapshot, float], after: tuple[Snapshot, float], seconds: float) -> float:
    """Which share of the machine's processor time went to what is neither measured nor the load."""
    processors = os.cpu_count() or 1
    spent = after[0].others_since(before[0]) - (after[1] - before[1])
    return round(max(0.0, spent) / (seconds * processors), 3)


def outcomes(rounds: Sequence[Round]) -> list[Outcome]:
    """Each target beside the median of the rounds."""
    return [target.beside(median(value(one) for one in rounds)) for target, value in TARGETS]


def described(on: dict[str, Any], rounds: Sequence[Round], counted: Mapping[str, int]) -> str:
    """Rates, lags, what a dead endpoint does to the others, and the targets: medians of the rounds."""
    parts = ["# Events a second, and how late they are", report.described(on), _noise(rounds)]
    parts += [_deliveries(rounds), _beside_dead(rounds), "## What was aimed at"]
    parts += [tables.aims(outcomes(rounds)), _once(counted)]
    return report.joined(parts)


def _noise(rounds: Sequence[Round]) -> str:
    shares = [one.others_share for one in rounds]
    max_late = max(
        each.max_late_ms for one in rounds for each in (*one.lag.values(), one.all_alive, one.one_dead)
    )
    return (
        f"Of the machine's processor time {median(shares):.0%} went to others in the median round,"
        f" {max(shares):.0%} in the worst. Load, services and Postgres share the processors; the engine's own"
        f" calls were up to {max_late:,.0f} ms late, which counts as lag. Offered are two thirds of the rate aimed"
        " at, or of the one reached where that is less; beside the dead endpoint one third, in"
        f" {STRETCHES} stretches without it and {STRETCHES} with it, in turn, of which the medians count."
    )


def _deliveries(rounds: Sequence[Round]) -> str:
    head = ("lanes", "plain POSTs/s", "deliveries/s", "to the POSTs", "offered/s", "p50 lag ms", "p99 lag ms")
    lines = [
        (
            f"{lanes:,}",
            f"{median(one.ceiling[lanes] for one in rounds):,.0f}",
            f"{median(one.drained[lanes] for one in rounds):,.0f}",
            f"{median(one.drained[lanes] / one.ceiling[lanes] for one in rounds):.2f}",
            *_lag_cells([one.lag[lanes] for one in rounds]),
        )
        for lanes in EACH_A_SECOND
    ]
    return tables.table(head, lines)


def _beside_dead(rounds: Sequence[Round]) -> str:
    head = (f"{ENDPOINTS} endpoints", "offered/s", "p50 lag ms", "p99 lag ms")
    lines = [
        ("all alive", *_lag_cells([one.all_alive for one in rounds])),
        ("one dead: the others", *_lag_cells([one.one_dead for one in rounds])),
    ]
    return tables.table(head, lines)


def _lag_cells(lags_: Sequence[Lag]) -> tuple[str, str, str]:
    return (
        f"{median(one.offered for one in lags_):,.0f}",
        f"{median(one.p50_ms for one in lags_):,.0f}",
        f"{median(one.p99_ms for one in lags_):,.0f}",
    )


def _once(counted: Mapping[str, int]) -> str:
    return (
        f"{counted['sent']:,} events were sent, those of plain POSTs among them; the receiver's inbox holds"
        f" {counted['inbox']:,}, and {counted['openings']:,} positions were opened, {counted['positions']:,}"
        " of them different: each event once."
    )
