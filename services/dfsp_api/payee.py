"""The payee role of dfsp-api: calculates fees, and reserves, executes and looks up quotes (Quote API §II, §III)."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

import environ
import msgspec
import orjson
from aiohttp import web

from chassis.app import SERVICE
from chassis.configuration import ConfigurationTable
from chassis.database import Database
from chassis.errors import (
    AmountOutOfRangeError,
    FeeScheduleNotFoundError,
    ForbiddenError,
    NoFeeScheduleError,
    QuotingError,
    UnavailableError,
)
from chassis.exchange import Exchange
from chassis.http.response import Response
from chassis.periodic import periodically
from chassis.postgres_session import PLAN_ONCE
from chassis.run import StartError
from chassis.settings import Secret, number, one_of, optional_path, whole
from chassis.text_file import TextFileError, read_text
from chassis.watched_files import WatchedFile
from dfsp_api import (
    distributed_exposure_repository,
    distributed_repository,
    exposure_control,
    exposure_repository,
    fee_schedule_repository,
    published_exposures,
    published_fees,
    quote_counts,
    quote_list,
    repository,
)
from dfsp_api.audit import outbox
from dfsp_api.audit import repository as audit_repository
from dfsp_api.audit.keys import AuditKeys, audit_keys
from dfsp_api.audit.note import NoteError
from dfsp_api.audit.operations import AuditOperations
from dfsp_api.audit.sequencer import Sequencer
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.exposure_control import ExposureControl, show_exposures
from dfsp_api.exposure_limits import ExposureRefusal
from dfsp_api.fee_schedule_file import FeeScheduleError, changes, parse_fee_schedule
from dfsp_api.fee_schedule_repository import FeeScheduleRepository
from dfsp_api.idempotency import fingerprint, quote_uuid
from dfsp_api.pricing import FeeSchedule, Terms, number_of
from dfsp_api.published_fees import fee_schedule_reply, schedule_id_of
from dfsp_api.quote_counts import QuoteCounts
from dfsp_api.quote_filter import Page
from dfsp_api.quote_list import filter_of, list_reply
from dfsp_api.replies import execution_reply, look_up_reply, release_reply, reservation_reply
from dfsp_api.repository import (
    MIGRATIONS,
    REPLACED,
    LookUp,
    NewQuote,
    PaymentOrder,
    ReleaseOrder,
    Repository,
    Reserved,
)
from dfsp_api.statement_batcher import StatementBatcher
from dfsp_api.stored_quote import OPERATIONS, StoredQuote
from quoting import validation
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, Call, Operation
from quoting.service import OwnOperation, Query, create_chain_app
from quoting.settings import ChainSettings

NAME: Final = "dfsp-api"
REPOSITORIES: Final = {"postgres": Repository, "distributed": DistributedRepository}
# Citus needs the values of a statement to plan it
SESSION_SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {"postgres": PLAN_ONCE, "distributed": {}}
MAX_LISTS_OF_CALLER: Final = 2
"""Maximum number of lists of one caller that are read at once, so that other callers do not wait for them."""
MAX_LISTS: Final = 4
"""Maximum number of lists that are read at once. Lists take long, and other statements need connections, too."""
STATEMENTS: Final = {
    **repository.STATEMENTS,
    **distributed_repository.STATEMENTS,
    **quote_counts.STATEMENTS,
    **fee_schedule_repository.STATEMENTS,
    **exposure_repository.STATEMENTS,
    **distributed_exposure_repository.STATEMENTS,
    **audit_repository.STATEMENTS,
    **outbox.STATEMENTS,
}
SAMPLE_FEES: Final = Path(str(files("dfsp_api") / "sample_fees.toml"))


def _audit_key(text: str | None) -> Secret | None:
    if not text:
        return None
    try:
        audit_keys(text)
    except NoteError as error:
        raise ValueError(f"cannot be used: {error}") from None
    return Secret(text)


@environ.config(prefix="QUOTES", frozen=True)
class PayeeSettings(ChainSettings):
    """Settings of the payee role: the fees, the database, and the lifetime of quotes."""

    port: int = environ.var(8015, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(converter=Secret, help="URL of the Postgres that stores the quotes")
    database_connections: int = environ.var(
        16, converter=whole(1, 1_000), help="maximum number of connections to Postgres"
    )
    database_kind: str = environ.var(
        "postgres",
        converter=one_of(*REPOSITORIES),
        help="postgres: one statement for many quotes; distributed: one for each quote, as Citus needs it",
    )
    fee_schedule: Path = environ.var(SAMPLE_FEES, converter=Path, help="TOML file of fees")
    exposure_limits_file: Path | None = environ.var(
        None, converter=optional_path, help="TOML file of exposure limits; without it there are none"
    )
    ttl_seconds: float = environ.var(
        300.0, converter=number(0.001, 31_536_000), help="seconds for which a quote can be executed"
    )
    max_ttl_seconds: float = environ.var(
        86_400.0,
        converter=number(0.001, 31_536_000),
        help="longest time that a caller can ask for with X-Quote-Lifetime-Ms",
    )
    retention_days: float = environ.var(
        30.0,
        converter=number(0, 36_500),
        help="days after which expired quotes that were never executed lose their terms",
    )
    retention_every_seconds: float = environ.var(
        60.0, converter=number(0.05, 86_400), help="seconds between two searches for such quotes"
    )
    audit_key: Secret | None = environ.var(
        None,
        converter=_audit_key,
        help="key that signs the audit log, and earlier ones, one a line; quotes audit key makes one; empty: no audit log",
    )
    audit_content_days: float = environ.var(
        400.0,
        converter=number(0, 36_500),
        help="days after which events in the audit log lose their content; their hashes stay",
    )
    audit_every_seconds: float = environ.var(
        1.0, converter=number(0.05, 5), help="seconds between two additions to the audit log"
    )


def create_app(settings: PayeeSettings) -> web.Application:
    """Create the application of the payee role. Raises StartError if the fee schedule cannot be used."""
    fee_file = WatchedFile("the fee schedule", settings.fee_schedule, is_public=True)
    limits_file = WatchedFile("the file of exposure limits", settings.exposure_limits_file, is_public=True)
    database = Database(
        settings.database_url,
        settings.database_connections,
        MIGRATIONS,
        statements=STATEMENTS,
        settings=SESSION_SETTINGS[settings.database_kind],
    )
    quotes, control = _repository(settings, database)
    payee = Payee(
        load_fees(settings.fee_schedule),
        database,
        settings.database_connections,
        quotes,
        control,
    )
    lists = OwnOperation(quote_list.PATH, quote_list.NAMES, payee.list_quotes, quote_list.describe())
    fees = OwnOperation(published_fees.PATH, frozenset(), payee.fee_schedule, published_fees.describe())
    exposures = OwnOperation(
        published_exposures.PATH,
        frozenset(),
        partial(show_exposures, control),
        published_exposures.describe(),
    )
    max_lifetime_ms = timedelta(seconds=settings.max_ttl_seconds) // timedelta(milliseconds=1)
    audits = AuditOperations(payee.database).all() if settings.audit_key else []
    own = [lists, fees, exposures, *audits]
    app = create_chain_app(NAME, settings, payee.handle, own=own, max_lifetime_ms=max_lifetime_ms)
    retention = timedelta(days=settings.retention_days)
    counts = QuoteCounts(payee.database, retention)

    async def sweep() -> bool:
        return await payee.quotes.sweep(retention) is not None

    async def running(app: web.Application) -> AsyncIterator[None]:
        log = app[SERVICE].logs.error
        await payee.database.open(lambda cause: log("the database is away", cause=cause))
        async with periodically("retention", settings.retention_every_seconds, sweep, log):
            yield
        await counts.close()
        await payee.close()

    app.cleanup_ctx.append(running)
    if control is not None:
        _add_control(app, control, limits_file)
    if settings.audit_key:
        add_audit_log(app, payee.database, audit_keys(settings.audit_key), settings)
    payee.statements.tracer = app[SERVICE].tracer
    app[SERVICE].add_database(payee.database)
    app[SERVICE].checks.append(payee.quotes.missing)
    app[SERVICE].measurements.add(counts.measure)
    for collector in (counts, payee.statements):
        app[SERVICE].metrics.registry.register(collector)
    app[SERVICE].tables.append(lambda: fee_table(payee.fees))
    app[SERVICE].files.add(fee_file, partial(reload_fees, payee, settings.fee_schedule))
    return app


def _repository(settings: PayeeSettings, database: Database) -> tuple[Repository, ExposureControl | None]:
    """Return the statements for the database, and the exposure limits; None without a file of limits.

    Raises StartError.
    """
    ttl, path = timedelta(seconds=settings.ttl_seconds), settings.exposure_limits_file
    is_audited = settings.audit_key is not None
    if path is None:
        return REPOSITORIES[settings.database_kind](database, ttl, is_audited=is_audited), None
    limited = exposure_control.REPOSITORIES[settings.database_kind](database, ttl, is_audited=is_audited)
    return limited, ExposureControl(limited, path, settings.metrics_callers)


def _add_control(app: web.Application, control: ExposureControl, file: WatchedFile) -> None:
    service = app[SERVICE]

    async def running(_app: web.Application) -> AsyncIterator[None]:
        async with periodically("exposures", exposure_control.STEP_SECONDS, control.step, service.logs.error):
            yield
        await control.close()

    app.cleanup_ctx.append(running)
    service.measurements.add(control.measure)
    service.metrics.registry.register(control)
    service.tables.append(control.table)
    service.files.add(file, control.reload)


def add_audit_log(app: web.Application, database: Database, keys: AuditKeys, settings: PayeeSettings) -> None:
    """Let this payee add events to the audit log whenever no other payee does, and show how late events are."""
    service = app[SERVICE]
    sequencer = Sequencer(
        database,
        keys,
        outbox.TAKE_EVENTS[settings.database_kind],
        content_for=timedelta(days=settings.audit_content_days),
        longest_lifetime=timedelta(seconds=max(settings.ttl_seconds, settings.max_ttl_seconds)),
        service=service,
    )

    async def sequence(_app: web.Application) -> AsyncIterator[None]:
        log = service.logs.error
        async with periodically("audit log", settings.audit_every_seconds, sequencer.step, log):
            yield

    app.cleanup_ctx.append(sequence)
    service.metrics.registry.register(sequencer)
    service.measurements.add(sequencer.measure)


def load_fees(path: Path) -> FeeSchedule:
    """Read the fee schedule from a file. Raises StartError; its message names the rule and the amount."""
    try:
        return parse_fee_schedule(read_text(path))
    except TextFileError as error:
        raise StartError(f"The fee schedule {error}") from error
    except FeeScheduleError as error:
        raise StartError(f"{path}: {error}") from error


def fee_table(fees: FeeSchedule) -> ConfigurationTable:
    """Return the fee schedule in force, one row for each step of each rule."""
    columns = ("transfer", "currency", "from", "to", "flat", "percent", "least", "most", "rounding")
    rows = [
        (
            transfer,
            currency,
            str(rule.to_decimal(step.first)),
            str(rule.to_decimal(step.last)),
            str(rule.to_decimal(step.flat)),
            f"{float(step.share * 100):g}",
            str(rule.to_decimal(rule.min_fee)),
            "" if rule.max_fee is None else str(rule.to_decimal(rule.max_fee)),
            rule.rounding.value,
        )
        for (transfer, currency), rule in sorted(fees.rules.items())
        for step in rule.steps
    ]
    return ConfigurationTable("Fee schedule", columns, rows, len(rows))


async def reload_fees(payee: "Payee", path: Path) -> Mapping[str, object]:
    """Read the fee schedule again (`chassis.watched_files.Reload`). Raises StartError."""
    # a large file takes a while to check
    fees = await asyncio.to_thread(load_fees, path)
    before, payee.fees = payee.fees, fees
    return changes(before, fees)


class Payee:
    """Answers the operations of the Quote API with the fee schedule and the database."""

    def __init__(
        self,
        fees: FeeSchedule,
        database: Database,
        connections: int,
        quotes: Repository,
        control: ExposureControl | None = None,
    ) -> None:
        self.database = database
        self.quotes = quotes
        self.schedules = FeeScheduleRepository(database)
        self.statements = StatementBatcher(
            quotes,
            database,
            connections,
            self.schedules.explain,
            None if control is None else control.is_limited,
        )
        self._lists = asyncio.Semaphore(MAX_LISTS)
        self._lists_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By caller. A caller has an entry while one of its lists is being read or waits."""
        self.fees = fees
        """Each request is priced from one schedule, whenever another one takes its place."""

    def handle(self, exchange: Exchange, call: Call) -> None:
        exchange.waits_for = "The database"
        namespace = self.quotes.known_namespace
        if call.operation is Operation.EXECUTE:
            self._execute(exchange, call)
        elif call.operation is Operation.LOOK_UP:
            self._look_up(exchange, call)
        elif call.operation is Operation.RELEASE:
            self._release(exchange, call)
        else:
            request = validation.reservation(call.body or b"")
            if namespace is None or not self.schedules.is_stored(self.fees, namespace):
                exchange.run(self._prepare_then_reserve(exchange, call, request))
            else:
                self._reserve(exchange, call, request, self.fees, namespace)

    async def list_quotes(self, exchange: Exchange, query: Query) -> Response:
        """Return a page of the caller's own quotes, or of everybody's for an operator.

        Raises InvalidQueryParameterError, ForbiddenError.
        """
        wanted = filter_of(query)
        is_operator = exchange.service.is_operator(exchange.caller)
        if not is_operator:
            if wanted.caller not in {None, exchange.caller}:
                raise ForbiddenError("Only an operator may list the quotes of another caller.")
            wanted = msgspec.structs.replace(wanted, caller=exchange.caller)
        caller = exchange.caller or ""
        of_caller = self._lists_of.setdefault(caller, asyncio.Semaphore(MAX_LISTS_OF_CALLER))
        async with of_caller, self._lists:
            page = await self.quotes.page(wanted, exchange.deadline)
        explained = await self.schedules.explain(dict(enumerate(page.quotes)), exchange.deadline)
        page = Page(list(explained.values()), page.next)
        return _ok(list_reply(page, with_callers=is_operator))

    async def fee_schedule(self, exchange: Exchange, _query: Query) -> Response:
        """Return the fee schedule in force, or the one with the id in the path. Raises FeeScheduleNotFoundError."""
        wanted = schedule_id_of(exchange.request.path)
        if wanted is None or wanted == self.fees.id:
            stored = self.schedules.known(self.fees.number) or await self.schedules.store(
                self.fees, exchange.deadline
            )
            return _ok(fee_schedule_reply(stored))
        number = number_of(wanted)
        found = (await self.schedules.find([number], exchange.deadline)).get(number)
        if found is None or found.schedule.id != wanted:
            raise FeeScheduleNotFoundError
        return _ok(fee_schedule_reply(found))

    async def close(self) -> None:
        await self.statements.close()
        await self.database.close()

    async def _prepare_then_reserve(self, exchange: Exchange, call: Call, request: dict[str, str]) -> None:
        """Read the namespace, the secret from which uuids are made, store the fee schedule, then reserve the quote.

        Each database needs both once, and the fee schedule again after it has changed.
        """
        fees = self.fees
        await self.schedules.store(fees, call.deadline)
        namespace = await self.quotes.namespace(call.deadline)
        if not self.schedules.is_stored(fees, namespace):
            raise UnavailableError(cause=REPLACED)
        self._reserve(exchange, call, request, fees, namespace)

    def _reserve(
        self, exchange: Exchange, call: Call, request: dict[str, str], fees: FeeSchedule, namespace: bytes
    ) -> None:
        uuid = quote_uuid(namespace, call.caller, call.idempotency_key or "")
        wanted = fingerprint(request)
        try:
            terms = _price(fees, call.operation, request)
        except (NoFeeScheduleError, AmountOutOfRangeError) as error:
            # a repeated request gets its quote, whatever today's fees are
            exchange.wait(LookUp(uuid, call.caller), partial(_repeated, call, wanted, error))
            self.statements.find(exchange)
            return
        new = NewQuote(
            uuid,
            call.caller,
            OPERATIONS[call.operation],
            wanted,
            request,
            terms,
            fees.number,
            call.lifetime_ms,
            namespace,
        )
        exchange.wait(new, partial(_outcome, call, new))
        self.statements.reserve(exchange)

    def _execute(self, exchange: Exchange, call: Call) -> None:
        parameters = validation.payment(call.body or b"")
        payment = PaymentOrder(
            UUID(call.uuid),
            call.caller,
            fingerprint(parameters),
            parameters.get("sourceAmount"),
            parameters.get("destinationAmount"),
        )
        exchange.wait(payment, lambda _, quote: _ok(execution_reply(quote, call.caller, parameters)))
        self.statements.execute(exchange)

    def _release(self, exchange: Exchange, call: Call) -> None:
        query = dict(call.query)
        order = ReleaseOrder(UUID(call.uuid), call.caller, query.get(IDENTIFIER_TYPE), query.get(IDENTIFIER))
        exchange.wait(order, lambda _, quote: _ok(release_reply(quote, call.caller, query)))
        self.statements.release(exchange)

    def _look_up(self, exchange: Exchange, call: Call) -> None:
        query = dict(call.query)
        wanted = LookUp(UUID(call.uuid), call.caller)
        exchange.wait(wanted, lambda _, quote: _ok(look_up_reply(quote, call.caller, query)))
        self.statements.find(exchange)


def _price(fees: FeeSchedule, operation: Operation, request: dict[str, str]) -> Terms:
    if operation is Operation.QUOTE_SOURCE_AMOUNT:
        return fees.price_source(request)
    return fees.price_destination(request)


def _repeated(
    call: Call, wanted: bytes, error: QuotingError, exchange: Exchange, quote: StoredQuote | None
) -> Response:
    """Return the reply with the quote that the same request got earlier. Its fee cannot be calculated now.

    If there is no earlier quote, raises `error`, the reason why no fee can be calculated.
    """
    if quote is None:
        raise error
    return _reserved(call, wanted, exchange, quote)


def _outcome(call: Call, new: NewQuote, exchange: Exchange, reserved: Reserved | None) -> Response:
    if isinstance(reserved, ExposureRefusal):
        raise reserved.error(new.request, new.terms.source_amount)
    return _reserved(call, new.fingerprint, exchange, reserved)


def _reserved(call: Call, wanted: bytes, exchange: Exchange, quote: StoredQuote | None) -> Response:
    try:
        reply = reservation_reply(quote, call.operation, wanted, call.lifetime_ms)
    except QuotingError:
        exchange.uuid = None if quote is None else str(quote.uuid)
        raise
    exchange.uuid = reply["uuid"]
    return _ok(reply)


def _ok(content: object) -> Response:
    return Response(200, orjson.dumps(content))
