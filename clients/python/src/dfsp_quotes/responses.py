"""Replies as values and errors (wire.md §2, §4). Pure: the reply comes in as an argument."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, TypeVar
from uuid import UUID

from dfsp_quotes.errors import (
    ERRORS_BY_ID,
    ExceededLimit,
    InvalidResponseError,
    NoResponseError,
    QuoteError,
    QuoteNotFoundError,
)
from dfsp_quotes.quotes import (
    AuditLeaf,
    AuditProof,
    Exposure,
    FeeExplanation,
    Operation,
    Payment,
    Quote,
    QuotePage,
    QuoteRequest,
    Release,
    State,
    StoredQuote,
)
from dfsp_quotes.transport import Message, Reply

MAX_FIELDS: Final = 32
MAX_QUOTES: Final = 200
MAX_EXPOSURES: Final = 20_000
MAX_LEAVES: Final = 3
MAX_HASHES: Final = 128
MAX_NAME_CHARACTERS: Final = 64
MAX_MESSAGE_CHARACTERS: Final = 500
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_MAX_AMOUNT_CHARACTERS: Final = 20
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_MAX_UNROUNDED_CHARACTERS: Final = 64
_MAX_SUM_CHARACTERS: Final = 40
_MAX_COUNT: Final = 10**15
_DECIDED_BY_PAYEE: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.GONE, HTTPStatus.UNPROCESSABLE_ENTITY})
"""The payee looks into its table before it answers with one of these: they hold for earlier attempts, too."""
_REJECTED: Final = range(400, 500)

E = TypeVar("E", bound=StrEnum)


class _FaultyReplyError(Exception):
    """The reply is not one of the Quote API."""


class _Members:
    """The members of a JSON object, each read with its type. Raises _FaultyReplyError that names the member."""

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, dict):
            raise _FaultyReplyError(f"{name} is not a JSON object")
        self._content: Mapping[str, Any] = content

    def has(self, name: str) -> bool:
        """Whether there is such a member, and it is not null."""
        return self._content.get(name) is not None

    def text(self, name: str) -> str:
        value = self._content.get(name)
        if not isinstance(value, str):
            raise _FaultyReplyError(f"{name} is not a string")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def amount(self, name: str, max_characters: int = _MAX_AMOUNT_CHARACTERS) -> Decimal:
        value = self.text(name)
        if len(value) > max_characters or not _AMOUNT.match(value):
            raise _FaultyReplyError(f"{name} is not an amount")
        return Decimal(value)

    def time(self, name: str) -> datetime:
        try:
            time = datetime.fromisoformat(self.text(name))
            if time.tzinfo is not None:
                return time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise _FaultyReplyError(f"{name} is not a time with a time zone")

    def optional_time(self, name: str) -> datetime | None:
        return self.time(name) if self.has(name) else None

    def uuid(self) -> UUID:
        try:
            return UUID(self.text("uuid"))
        except ValueError:
            raise _FaultyReplyError("uuid is not a UUID") from None

    def whole(self, name: str) -> int:
        """Return a whole number that is not negative."""
        value = self._content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _FaultyReplyError(f"{name} is not a whole number")
        return value

    def hash(self, name: str) -> bytes:
        return _hash(self._content.get(name), name)

    def hashes(self, name: str) -> tuple[bytes, ...]:
        value = self._content.get(name)
        if not isinstance(value, list) or len(value) > MAX_HASHES:
            raise _FaultyReplyError(f"{name} is not a list of at most {MAX_HASHES} hashes")
        return tuple(_hash(each, name) for each in value)

    def one_of(self, kind: type[E], name: str) -> E:
        try:
            return kind(self.text(name))
        except ValueError:
            raise _FaultyReplyError(f"{name} has an unknown value") from None

    def object(self, name: str) -> "_Members":
        return _Members(self._content.get(name), name)

    def count(self, name: str) -> int:
        value = self._content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
            raise _FaultyReplyError(f"{name} is not a number of quotes")
        return value

    def every(self, name: str, most: int = MAX_QUOTES) -> "list[_Members]":
        """Return the objects of a list. Each element must be an object."""
        value = self._content.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise _FaultyReplyError(f"{name} is not a list of at most {most} objects")
        return [_Members(each, f"an entry of {name}") for each in value]

    def objects(self, name: str) -> list["_Members"]:
        """Return the objects of an optional list. Anything else in it is left out."""
        value = self._content.get(name)
        found = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
        return [_Members(each, name) for each in found]


def _hash(value: object, name: str) -> bytes:
    if not isinstance(value, str) or not _HASH.match(value):
        raise _FaultyReplyError(f"{name} is not a SHA-256 in hexadecimal digits")
    return bytes.fromhex(value)


def read_checkpoint(reply: Reply, message: Message) -> str:
    """Return the text of a checkpoint of the audit log. Raises InvalidResponseError."""
    try:
        note = reply.body.decode()
    except UnicodeDecodeError:
        note = ""
    if "\n\n" not in note:
        raise _invalid("the body is no signed note", reply, message)
    return note


def read_audit_proof(reply: Reply, message: Message, uuid: UUID) -> AuditProof:
    """Return the leaves of the quote with this uuid. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        _require_same_quote(members, uuid)
        leaves = members.every("leaves")[:MAX_LEAVES]
        return AuditProof(
            uuid=uuid,
            checkpoint=members.text("checkpoint"),
            leaves=tuple(
                AuditLeaf(
                    event=leaf.text("event"),
                    position=leaf.whole("position"),
                    content=leaf.optional_text("content"),
                    hash=leaf.hash("hash"),
                    proof=leaf.hashes("proof"),
                )
                for leaf in leaves
            ),
        )
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_consistency(reply: Reply, message: Message) -> tuple[bytes, ...]:
    """Return the hashes of a consistency proof. Raises InvalidResponseError."""
    try:
        return _members(reply).hashes("proof")
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_quote(reply: Reply, message: Message, request: QuoteRequest) -> Quote:
    """Return the quote of a reservation. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        return Quote(
            uuid=members.uuid(),
            request=request,
            amount=members.amount("amount"),
            expires=members.time("expires"),
            trace_id=message.trace_id,
            idempotency_key=message.idempotency_key or "",
        )
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_payment(reply: Reply, message: Message, uuid: UUID) -> Payment:
    """Return the execution of the quote with this uuid. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        _require_same_quote(members, uuid)
        return Payment(
            uuid=uuid,
            state=members.one_of(State, "state"),
            source_amount=members.amount("sourceAmount"),
            destination_amount=members.amount("destinationAmount"),
            fee=members.amount("fee"),
            executed=members.time("executed"),
            trace_id=message.trace_id,
        )
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def _explanation(quote: _Members) -> FeeExplanation | None:
    if not quote.has("explanation"):
        return None
    members = quote.object("explanation")
    rule, step = members.object("rule"), members.object("step")
    return FeeExplanation(
        schedule=members.text("schedule"),
        transfer_type=rule.text("transferType"),
        currency_code=rule.text("currencyCode"),
        step_from=step.amount("from"),
        step_to=step.amount("to"),
        flat=step.amount("flat"),
        percent=step.amount("percent"),
        least=members.amount("least"),
        most=members.amount("most") if members.has("most") else None,
        rounding=members.text("rounding"),
        unrounded=members.amount("unrounded", _MAX_UNROUNDED_CHARACTERS),
    )


def read_release(reply: Reply, message: Message, uuid: UUID) -> Release:
    """Return the release of the quote with this uuid. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        _require_same_quote(members, uuid)
        return Release(
            uuid=uuid,
            state=members.one_of(State, "state"),
            released=members.time("released"),
            trace_id=message.trace_id,
        )
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_stored_quote(reply: Reply, message: Message, uuid: UUID) -> StoredQuote:
    """Return the quote with this uuid. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        _require_same_quote(members, uuid)
        return _stored_quote(members, message)
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_page(reply: Reply, message: Message) -> QuotePage:
    """Return a page of a list of quotes. Raises InvalidResponseError."""
    try:
        members = _members(reply)
        quotes = tuple(_stored_quote(each, message) for each in members.every("quotes"))
        return QuotePage(quotes=quotes, next=members.optional_text("next"))
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def read_exposures(reply: Reply, message: Message) -> tuple[Exposure, ...]:
    """Return the exposures. Raises InvalidResponseError."""
    try:
        return tuple(_exposure(each) for each in _members(reply).every("exposures", MAX_EXPOSURES))
    except _FaultyReplyError as fault:
        reason = str(fault)
    raise _invalid(reason, reply, message)


def _exposure(members: _Members) -> Exposure:
    return Exposure(
        caller=members.text("caller"),
        currency_code=members.text("currencyCode"),
        sum=members.amount("sum", _MAX_SUM_CHARACTERS),
        count=members.count("count"),
        sum_limit=members.amount("sumLimit", _MAX_SUM_CHARACTERS) if members.has("sumLimit") else None,
        count_limit=members.count("countLimit") if members.has("countLimit") else None,
    )


def _stored_quote(members: _Members, message: Message) -> StoredQuote:
    return StoredQuote(
        uuid=members.uuid(),
        request=_request(members),
        amount=members.amount("amount"),
        expires=members.time("expires"),
        trace_id=message.trace_id,
        state=members.one_of(State, "state"),
        created=members.time("created"),
        executed=members.optional_time("executed"),
        explanation=_explanation(members),
        released=members.optional_time("released"),
        caller=members.optional_text("caller"),
    )


def error_of(reply: Reply, message: Message, *, is_repeated: bool) -> QuoteError:
    """Return the error that a reply other than 200 stands for.

    `is_repeated`: the outcome of an earlier attempt is unknown.
    """
    if reply.status is None:
        is_unknown = is_repeated or reply.may_repeat
        hint = " The outcome is unknown; repeating is safe." if is_unknown else ""
        return NoResponseError(
            f"{reply.outcome[:1].upper()}{reply.outcome[1:]}.{hint}",
            trace_id=message.trace_id,
            idempotency_key=message.idempotency_key,
            is_outcome_unknown=is_unknown,
        )
    if reply.problem is not None:
        return _invalid(reply.problem, reply, message, is_repeated=is_repeated)
    try:
        members = _members(reply)
        id_, text, service = members.text("id"), members.text("message"), members.text("service")
        fields = _fields(members)
    except _FaultyReplyError as fault:
        reason = str(fault)
    else:
        kind = ERRORS_BY_ID.get(id_, QuoteError)
        return kind(
            _shown(text, MAX_MESSAGE_CHARACTERS),
            status=reply.status,
            id=_shown(id_, MAX_NAME_CHARACTERS),
            fields=fields,
            limits=_limits(members),
            service=_shown(service, MAX_NAME_CHARACTERS),
            trace_id=message.trace_id,
            idempotency_key=message.idempotency_key,
            retry_after=reply.retry_after,
            is_outcome_unknown=_is_outcome_unknown(kind, reply, is_repeated=is_repeated),
        )
    return _invalid(reason, reply, message, is_repeated=is_repeated)


def _is_outcome_unknown(kind: type[QuoteError], reply: Reply, *, is_repeated: bool) -> bool:
    if reply.status not in _REJECTED:
        return True
    is_decided = reply.status in _DECIDED_BY_PAYEE or kind is QuoteNotFoundError
    return is_repeated and not is_decided


def _members(reply: Reply) -> _Members:
    try:
        return _Members(json.loads(reply.body), "the body")
    except (ValueError, RecursionError):
        raise _FaultyReplyError("the body is not JSON") from None


def _require_same_quote(members: _Members, uuid: UUID) -> None:
    if members.uuid() != uuid:
        raise _FaultyReplyError("uuid is that of another quote")


def _request(members: _Members) -> QuoteRequest:
    request = members.object("request")
    return QuoteRequest(
        operation=members.one_of(Operation, "operation"),
        currency_code=request.text("currencyCode"),
        currency_symbol=request.text("currencySymbol"),
        amount=request.amount("amount"),
        account=request.text("account"),
        identifier=request.text("identifier"),
        identifier_type=request.text("identifierType"),
        transfer_type=request.text("transferType"),
    )


def _fields(members: _Members) -> dict[str, str]:
    """Return the messages of validationErrors by field. Entries in another form are left out."""
    found: dict[str, str] = {}
    for fault in members.objects("validationErrors")[:MAX_FIELDS]:
        try:
            name = _shown(fault.object("params").text("key"), MAX_NAME_CHARACTERS)
            text = _shown(fault.text("message"), MAX_MESSAGE_CHARACTERS)
        except _FaultyReplyError:
            continue
        found[name] = f"{found[name]}; {text}" if name in found else text
    return found


def _limits(members: _Members) -> dict[str, ExceededLimit]:
    """Return the exceeded limits in validationErrors by field."""
    found: dict[str, ExceededLimit] = {}
    for fault in members.objects("validationErrors")[:MAX_FIELDS]:
        try:
            params = fault.object("params")
            limit, exposure, requested = (
                params.amount(name, _MAX_SUM_CHARACTERS) for name in ("limit", "exposure", "requested")
            )
            name = _shown(params.text("key"), MAX_NAME_CHARACTERS)
        except _FaultyReplyError:
            continue
        found[name] = ExceededLimit(limit=limit, exposure=exposure, requested=requested)
    return found


def _invalid(
    reason: str, reply: Reply, message: Message, *, is_repeated: bool = True
) -> InvalidResponseError:
    return InvalidResponseError(
        f"The response with status {reply.status} is not one of the Quote API: {reason}.",
        status=reply.status,
        trace_id=message.trace_id,
        idempotency_key=message.idempotency_key,
        retry_after=reply.retry_after,
        is_outcome_unknown=is_repeated or reply.status not in _REJECTED,
    )


def _shown(text: str, max_characters: int) -> str:
    """Return a text of the server as callers see it: cut, and without control characters."""
    return "".join(each if each.isprintable() else "?" for each in text[:max_characters])
