"""Over a day of traffic, exposures and refusals equal those of a model at every step. The database's clock is advanced."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfsp_api.distributed_exposure_repository import LimitedDistributedRepository
from dfsp_api.exposure_limits import Exposure, ExposureLimit, ExposureLimits, ExposureRefusal
from dfsp_api.exposure_repository import LimitedRepository
from dfsp_api.idempotency import quote_uuid
from dfsp_api.pricing import Terms
from dfsp_api.repository import NewQuote, ReleaseOrder
from dfsp_api.stored_quote import StoredQuote
from support.payee import NAMESPACE, TTL, database, new, payment

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
CALLERS = ("test", "other", "free")
CURRENCIES = ("USD", "EUR")
LIMITS = {
    ("test", "USD"): ExposureLimit(Decimal("20.00"), 4),
    ("test", "EUR"): ExposureLimit(Decimal("9.00"), None),
    ("other", "USD"): ExposureLimit(None, 3),
}
KINDS = (LimitedRepository, LimitedDistributedRepository)


@dataclass
class ModelQuote:
    """A reserved quote of the model."""

    new: NewQuote
    expires: datetime
    has_ended: bool = False


@dataclass
class Model:
    """Keeps every quote, and adds them up anew for each question."""

    limits: dict[tuple[str, str], ExposureLimit]
    now: datetime = BEGIN
    quotes: dict[UUID, ModelQuote] = field(default_factory=dict)

    def exposure(self, pair: tuple[str, str]) -> Exposure:
        amounts = [
            quote.new.terms.source_amount
            for quote in self.quotes.values()
            if pair == (quote.new.caller, quote.new.request["currencyCode"])
            and not quote.has_ended
            and quote.expires > self.now
        ]
        return Exposure(sum(amounts, Decimal(0)), len(amounts))

    def exposures(self) -> dict[tuple[str, str], Exposure]:
        """Return the exposures of the pairs that have a limit, without those of zero."""
        every = {pair: self.exposure(pair) for pair in self.limits}
        return {pair: exposure for pair, exposure in every.items() if exposure.count}

    def reserve(self, batch: list[NewQuote]) -> list[Exposure | None]:
        """Return the exposure that each quote of a batch is refused with; None if it is reserved, now or earlier."""
        return [self._reserve(each) for each in batch]

    def _reserve(self, each: NewQuote) -> Exposure | None:
        pair = each.caller, each.request["currencyCode"]
        if each.uuid in self.quotes:
            return None
        limit, exposure = self.limits.get(pair), self.exposure(pair)
        amount = each.terms.source_amount
        if limit is not None and (
            (limit.sum is not None and exposure.sum + amount > limit.sum)
            or (limit.count is not None and exposure.count + 1 > limit.count)
        ):
            return exposure
        lifetime = TTL if each.lifetime_ms is None else timedelta(milliseconds=each.lifetime_ms)
        self.quotes[each.uuid] = ModelQuote(each, self.now + lifetime)
        return None

    def end(self, each: NewQuote) -> None:
        """Execute or release a quote, if that is possible."""
        quote = self.quotes.get(each.uuid)
        if quote is not None and quote.expires > self.now:
            quote.has_ended = True


def quote(caller: str, currency: str, key: int, cents: int, lifetime_ms: int | None) -> NewQuote:
    made = new(str(key), currencyCode=currency)
    amount = Decimal(cents).scaleb(-2)
    return msgspec.structs.replace(
        made,
        caller=caller,
        uuid=quote_uuid(NAMESPACE, caller, f"{key} {currency}"),
        terms=Terms(amount, amount),
        lifetime_ms=lifetime_ms,
    )


# few keys, so that many requests are repetitions and many executions find a quote
QUOTES = st.builds(
    quote,
    caller=st.sampled_from(CALLERS),
    currency=st.sampled_from(CURRENCIES),
    key=st.integers(1, 8),
    cents=st.integers(1, 900),
    lifetime_ms=st.none() | st.sampled_from([1, 60_000, 3_600_000, 86_400_000]),
)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), st.lists(QUOTES, min_size=1, max_size=6, unique_by=lambda each: each.uuid)),
    st.tuples(st.just("execute"), QUOTES),
    st.tuples(st.just("release"), QUOTES),
    st.tuples(st.just("advance"), st.sampled_from([1, 59_000, 300_000, 3_600_000, 20_000_000])),
    st.tuples(st.just("limits"), st.sets(st.sampled_from(sorted(LIMITS)))),
)


@pytest.fixture(params=KINDS)
async def repository(request, database_url, clock):
    async with database(database_url) as opened:
        await clock.set(BEGIN.isoformat())
        made = request.param(opened, TTL)
        yield made
        await made.exposures.close()


@given(steps=st.lists(STEPS, min_size=5, max_size=25))
@settings(
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_exposures_and_refusals_equal_those_of_a_model_at_every_step(repository, clock, sql, steps):
    await sql.execute("DELETE FROM quote; DELETE FROM exposure; DELETE FROM exposure_entry")
    await clock.set(BEGIN.isoformat())
    model = Model(dict(LIMITS))
    repository.exposures.use(ExposureLimits(LIMITS))
    repository.exposures.forget()
    for name, value in steps:
        if name == "reserve":
            outcomes = await repository.reserve(value)
            refused = [outcomes[each.uuid] for each in value]
            assert model.reserve(value) == [
                each.exposure if isinstance(each, ExposureRefusal) else None for each in refused
            ]
        elif name == "execute":
            model.end(value)
            stored = (await repository.find([value])).get(value.uuid)
            if stored is not None:
                await repository.execute([payment_of(stored)])
        elif name == "release":
            model.end(value)
            await repository.release([ReleaseOrder(value.uuid, value.caller)])
        elif name == "advance":
            model.now += timedelta(milliseconds=value)
            await clock.set(model.now.isoformat())
        else:
            model.limits = {pair: LIMITS[pair] for pair in value}
            repository.exposures.use(ExposureLimits(model.limits))
        await repository.exposures.count(model.limits)
        found = await repository.exposures_now()
        assert model.exposures() == {
            pair: exposure for pair, exposure in found.items() if pair in model.limits and exposure.count
        }
    assert len(model.quotes) == await sql.fetchval("SELECT count(*) FROM quote")


LIFETIMES = (None, 1_000, 60_000, 3_600_000, 86_400_000)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_day_of_traffic_over_two_payees_has_the_exposures_of_a_model(database_url, clock, kind):
    async with database(database_url) as opened:
        await clock.set(BEGIN.isoformat())
        payees = [kind(opened, TTL) for _ in range(2)]
        for payee in payees:
            payee.exposures.use(ExposureLimits(LIMITS))
        model, chance = Model(dict(LIMITS)), Random(1)
        made: list[NewQuote] = []
        steps = 0
        while model.now < BEGIN + timedelta(days=1):
            payee = payees[steps % 2]
            batch = [
                quote(
                    chance.choice(CALLERS),
                    chance.choice(CURRENCIES),
                    steps * 10 + number,
                    chance.randint(1, 900),
                    chance.choice(LIFETIMES),
                )
                for number in range(chance.randint(1, 5))
            ]
            # some requests are repetitions
            batch += chance.sample(made, min(len(made), chance.randint(0, 2)))
            outcomes = await payee.reserve(batch)
            assert model.reserve(batch) == [
                each.exposure if isinstance(each, ExposureRefusal) else None
                for each in (outcomes[each.uuid] for each in batch)
            ]
            made = [*made, *batch][-40:]
            ended = chance.choice(made)
            model.end(ended)
            if chance.random() < 1 / 2:
                await payees[chance.randint(0, 1)].execute([msgspec.structs.replace(payment(ended))])
            else:
                await payees[chance.randint(0, 1)].release([ReleaseOrder(ended.uuid, ended.caller)])
            model.now += timedelta(seconds=chance.choice([0, 1, 59, 600, 1_800, 3_600]))
            await clock.set(model.now.isoformat())
            found = await payee.exposures_now()
            assert model.exposures() == {pair: exposure for pair, exposure in found.items() if exposure.count}
            steps += 1
        assert steps > 50
        for payee in payees:
            await payee.exposures.close()


def payment_of(stored: StoredQuote) -> object:
    made = new("any", **(stored.request or {}))
    return msgspec.structs.replace(payment(made), uuid=stored.uuid, caller=stored.caller)
