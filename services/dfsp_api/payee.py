"""The payee role: prices, reserves, executes and looks up quotes (Quote API §II, §III)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import environ
import orjson
from aiohttp import web

from chassis.app import SERVICE
from chassis.database import Database
from chassis.errors import AmountOutOfRangeError, NoFeeScheduleError, QuotingError
from chassis.messages import Reply
from chassis.run import StartError
from chassis.settings import Secret, number, one_of, whole
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.fee_schedule_file import FeeScheduleError, parse_fee_schedule
from dfsp_api.idempotency import fingerprint, quote_uuid
from dfsp_api.pricing import FeeSchedule, Terms
from dfsp_api.replies import execution_reply, look_up_reply, reservation_reply
from dfsp_api.repository import MIGRATIONS, NewQuote, PaymentOrder, Repository
from dfsp_api.statement_batcher import Together
from dfsp_api.stored_quote import OPERATIONS
from quoting import validation
from quoting.call import Call, Operation
from quoting.express import Passage
from quoting.server import add_chain, create_chain_app
from quoting.settings import ChainSettings

NAME: Final = "dfsp-api"
REPOSITORIES: Final = {"postgres": Repository, "distributed": DistributedRepository}
SAMPLE_FEES: Final = Path(str(files("dfsp_api") / "sample_fees.toml"))


@environ.config(prefix="QUOTES", frozen=True)
class PayeeSettings(ChainSettings):
    """Fees, the database, and how long quotes live."""

    port: int = environ.var(8015, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(converter=Secret, help="the Postgres that keeps the quotes")
    database_connections: int = environ.var(
        16, converter=whole(1, 1_000), help="connections to Postgres at most"
    )
    database_kind: str = environ.var(
        "postgres",
        converter=one_of(*REPOSITORIES),
        help="postgres: many quotes a statement; distributed: one by one, as Citus and its like take them",
    )
    fee_schedule: Path = environ.var(SAMPLE_FEES, converter=Path, help="TOML file of fees")
    ttl_seconds: float = environ.var(
        300.0, converter=number(0.001, 31_536_000), help="how long a quote is good"
    )
    retention_days: float = environ.var(
        30.0,
        converter=number(0, 36_500),
        help="after how long expired, never executed quotes lose their terms",
    )
    retention_every_seconds: float = environ.var(
        60.0, converter=number(0.05, 86_400), help="how often that is looked for"
    )


def create_app(settings: PayeeSettings) -> web.Application:
    """Raises StartError where the fee schedule is refused."""
    app = create_chain_app(NAME, settings)
    payee = Payee(
        load_fees(settings.fee_schedule),
        Database(settings.database_url, settings.database_connections, MIGRATIONS),
        settings.database_connections,
        timedelta(seconds=settings.ttl_seconds),
        REPOSITORIES[settings.database_kind],
    )

    async def database(app: web.Application) -> AsyncIterator[None]:
        logs = app[SERVICE].logs
        await payee.database.open(lambda cause: logs.error("the database is away", cause=cause))
        sweeping = asyncio.create_task(payee.keep_swept(settings, logs.error))
        yield
        sweeping.cancel()
        await asyncio.wait([sweeping])
        await payee.close()

    app.cleanup_ctx.append(database)
    app[SERVICE].checks += [payee.database.missing, payee.quotes.missing]
    add_chain(app, payee.answer, payee.start)
    return app


def load_fees(path: Path) -> FeeSchedule:
    """The schedule in a file. Raises StartError that names rule and amount."""
    try:
        return parse_fee_schedule(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, FeeScheduleError) as error:
        raise StartError(f"{path}: {error}") from error


class Payee:
    """The end of the chain."""

    def __init__(
        self,
        fees: FeeSchedule,
        database: Database,
        connections: int,
        ttl: timedelta,
        repository: type[Repository] = Repository,
    ) -> None:
        self.database = database
        self.quotes = repository(database, ttl)
        self._together = Together(self.quotes, database, connections)
        self._fees = fees

    async def answer(self, call: Call) -> Reply:
        """Any of the four operations."""
        match call.operation:
            case Operation.EXECUTE:
                content = await self._execute(call)
            case Operation.LOOK_UP:
                content = await self._look_up(call)
            case _:
                content = await self._reserve(call)
        return _told(content)

    def start(self, passage: Passage) -> bool:
        """Executions, and reservations that have a price: without one it may yet be a repetition."""
        call, namespace = passage.call, self.quotes.known_namespace
        if call.operation is Operation.EXECUTE:
            parameters, payment = _payment(call)
            passage.value = payment
            passage.reply = lambda quote: _told(execution_reply(quote, call.caller, parameters))
            self._together.start_executing(passage)
            return True
        if namespace is None:
            return False
        try:
            new = self._new_quote(call, namespace)
        except (NoFeeScheduleError, AmountOutOfRangeError):
            return False
        passage.value = new
        passage.reply = lambda quote: _told(reservation_reply(quote, call.operation, new.fingerprint))
        self._together.start_reserving(passage)
        return True

    async def close(self) -> None:
        await self._together.close()
        await self.database.close()

    async def _reserve(self, call: Call) -> object:
        namespace = await self.quotes.namespace()
        try:
            new = self._new_quote(call, namespace)
        except (NoFeeScheduleError, AmountOutOfRangeError):
            # a repetition gets its quote, whatever today's fees are
            wanted = fingerprint(validation.reservation(call.body or b""))
            quote = await self._together.find(_uuid(call, namespace), call.deadline)
            if quote is None:
                raise
        else:
            wanted = new.fingerprint
            quote = await self._together.reserve(new, call.deadline)
        return reservation_reply(quote, call.operation, wanted)

    def _new_quote(self, call: Call, namespace: bytes) -> NewQuote:
        """Raises InvalidBodyError; NoFeeScheduleError and AmountOutOfRangeError where there is no price."""
        request = validation.reservation(call.body or b"")
        return NewQuote(
            _uuid(call, namespace),
            call.caller,
            OPERATIONS[call.operation],
            fingerprint(request),
            request,
            self._price(call.operation, request),
            namespace,
        )

    def _price(self, operation: Operation, request: dict[str, str]) -> Terms:
        if operation is Operation.QUOTE_SOURCE_AMOUNT:
            return self._fees.price_source(request)
        return self._fees.price_destination(request)

    async def _execute(self, call: Call) -> object:
        parameters, payment = _payment(call)
        return execution_reply(await self._together.execute(payment, call.deadline), call.caller, parameters)

    async def _look_up(self, call: Call) -> object:
        quote = await self._together.find(UUID(call.uuid), call.deadline)
        return look_up_reply(quote, call.caller, dict(call.query))

    async def keep_swept(self, settings: PayeeSettings, on_fault: Callable[..., object]) -> None:
        """Retention, for as long as the service runs: small batches, one after the other."""
        while True:
            await asyncio.sleep(settings.retention_every_seconds)
            try:
                while await self.quotes.sweep(timedelta(days=settings.retention_days)) is not None:
                    await asyncio.sleep(0.01)
            except (QuotingError, asyncpg.PostgresError) as error:
                on_fault("retention", cause=str(getattr(error, "cause", None) or error))


def _uuid(call: Call, namespace: bytes) -> UUID:
    return quote_uuid(namespace, call.caller, call.idempotency_key or "")


def _payment(call: Call) -> tuple[Mapping[str, str], PaymentOrder]:
    """The parameters, and what they ask for. Raises InvalidBodyError."""
    parameters = validation.payment(call.body or b"")
    return parameters, PaymentOrder(
        UUID(call.uuid),
        call.caller,
        fingerprint(parameters),
        parameters.get("sourceAmount"),
        parameters.get("destinationAmount"),
    )


def _told(content: object) -> Reply:
    return Reply(200, orjson.dumps(content))
