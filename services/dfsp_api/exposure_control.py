"""Exposure limits of a running payee: their file, ``GET /v1/exposures``, their metric, and the work in the background."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Final

import orjson
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.configuration import ConfigurationTable
from chassis.exchange import Exchange
from chassis.http.response import Response
from chassis.run import StartError
from chassis.text_file import TextFileError, read_text
from dfsp_api.distributed_exposure_repository import LimitedDistributedRepository
from dfsp_api.exposure_limit_file import ExposureLimitsError, parse_exposure_limits
from dfsp_api.exposure_limits import Exposure, ExposureLimit, ExposureLimits, format_sum
from dfsp_api.exposure_repository import ExposureRepository, LimitedRepository
from dfsp_api.exposures import pair_of
from dfsp_api.published_exposures import LimitedExposure, exposures_reply
from dfsp_api.repository import NewQuote
from quoting.service import Query

STEP_SECONDS: Final = 1.0
"""Seconds between two checks whether pairs with a new limit must be counted."""
TIDY_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 10.0
"""Pause after a failure, for example while the database is away."""
OTHER: Final = "other"

REPOSITORIES: Final[Mapping[str, type[ExposureRepository]]] = {
    "postgres": LimitedRepository,
    "distributed": LimitedDistributedRepository,
}


class ExposureControl(Collector):
    """The exposure limits of one payee."""

    def __init__(self, quotes: ExposureRepository, path: Path, max_listed: int) -> None:
        """Read the limits from the file. Raises StartError.

        `max_listed` limits the pairs of caller and currency that the metric lists.
        """
        self._quotes = quotes
        self._path = path
        self._max_listed = max_listed
        self._shown: list[LimitedExposure] = []
        self._next_tidy = 0.0
        self._not_before = 0.0
        quotes.exposures.use(load_limits(path))

    @property
    def limits(self) -> ExposureLimits:
        return self._quotes.exposures.limits

    def is_limited(self, new: NewQuote) -> bool:
        return self.limits.of(*pair_of(new)) is not None

    async def reload(self) -> Mapping[str, object]:
        """Read the limits again (`chassis.watched_files.Reload`). Raises StartError."""
        limits = await asyncio.to_thread(load_limits, self._path)
        before = self.limits.by_pair
        self._quotes.exposures.use(limits)
        after = limits.by_pair
        return {
            "limits": len(after),
            "new": len(after.keys() - before.keys()),
            "changed": sum(before[pair] != after[pair] for pair in before.keys() & after.keys()),
            "gone": len(before.keys() - after.keys()),
        }

    async def step(self) -> bool:
        """Count the quotes of pairs with a new limit, and remove old entries now and then. Return whether more are left.

        Raises the errors of Database.fetch, at most once in RETRY_SECONDS.
        """
        if monotonic() < self._not_before:
            return False
        self._not_before = monotonic() + RETRY_SECONDS
        await self._quotes.exposures.count(self.limits.by_pair)
        are_left = monotonic() >= self._next_tidy and await self._quotes.tidy()
        if not are_left and monotonic() >= self._next_tidy:
            self._next_tidy = monotonic() + TIDY_SECONDS
        self._not_before = 0.0
        return are_left

    async def now(self, deadline: float | None = None) -> list[LimitedExposure]:
        """Return the exposures of all pairs that have a limit, ordered by caller and currency.

        Raises the errors of Database.fetch.
        """
        limits = self.limits
        await self._quotes.exposures.count(limits.by_pair, deadline)
        found = await self._quotes.exposures_now(deadline)
        # the file may write a name that is an e-mail address in another case
        pairs = {pair for pair in found if limits.of(*pair) is not None and found[pair].count}
        every: list[LimitedExposure] = []
        for pair in sorted(pairs | set(limits.by_pair)):
            limit = limits.of(*pair)
            if limit is not None:
                every.append((pair, limit, found.get(pair, Exposure())))
        return every

    async def measure(self) -> None:
        """Read the exposures for the next collection. Raises the errors of Database.fetch."""
        self._shown = []
        self._shown = await self.now(monotonic() + STEP_SECONDS)

    def collect(self) -> Iterator[Metric]:
        ratio = GaugeMetricFamily(
            "exposure_ratio",
            "Exposure divided by its limit, of callers with a limit",
            labels=["caller", "currency", "limit"],
        )
        others: dict[str, float] = {}
        for number, ((caller, currency), limit, exposure) in enumerate(self._shown):
            for name, value in _ratios(limit, exposure).items():
                if number < self._max_listed and caller != OTHER:
                    ratio.add_metric([caller, currency, name], value)
                else:
                    others[name] = max(value, others.get(name, 0.0))
        for name, value in others.items():
            ratio.add_metric([OTHER, OTHER, name], value)
        yield ratio

    def table(self) -> ConfigurationTable:
        """Return the limits in force."""
        rows = [
            (
                caller,
                currency,
                "" if limit.sum is None else format_sum(limit.sum, currency),
                "" if limit.count is None else str(limit.count),
            )
            for (caller, currency), limit in sorted(self.limits.by_pair.items())
        ]
        return ConfigurationTable(
            "Exposure limits", ("caller", "currency", "sum limit", "count limit"), rows, len(rows)
        )

    async def close(self) -> None:
        await self._quotes.exposures.close()


async def show_exposures(control: ExposureControl | None, exchange: Exchange, _query: Query) -> Response:
    """Return the exposures for an operator; without limits there are none. Raises ForbiddenError."""
    exchange.service.require_operator(exchange.caller)
    exposures = [] if control is None else await control.now(exchange.deadline)
    return Response(200, orjson.dumps(exposures_reply(exposures)))


def load_limits(path: Path) -> ExposureLimits:
    """Read exposure limits from a file. Raises StartError; its message names the file and the line."""
    try:
        return parse_exposure_limits(read_text(path))
    except TextFileError as error:
        raise StartError(f"The exposure limits {error}") from error
    except ExposureLimitsError as error:
        raise StartError(f"{path}, {error}") from error


def _ratios(limit: ExposureLimit, exposure: Exposure) -> dict[str, float]:
    """Return exposure ÷ limit by kind of limit. A limit of zero is used up."""
    ratios = {}
    if limit.sum is not None:
        ratios["sum"] = float(exposure.sum / limit.sum) if limit.sum else 1.0
    if limit.count is not None:
        ratios["count"] = exposure.count / limit.count if limit.count else 1.0
    return ratios
