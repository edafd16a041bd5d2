"""Where events are carried out: a batch is one transaction with the accounts locked (design, "Receiver").

Inbox, positions, funds and answers change together or not at all. So an event that is answered has been carried
out once, however often it comes, and one that was not answered can come again.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from chassis.database import Connection, Database
from chassis.errors import InvalidBodyError
from chassis.messages import Headers
from signal_receiver import repository
from signal_receiver.batches import Batches
from signal_receiver.events import Signal
from signal_receiver.instruments import Catalogue
from signal_receiver.refusals import Refusal
from signal_receiver.repository import Account, Answered, Item
from signal_receiver.trading import Market, Outcome

ANSWER_MEMORY: Final = timedelta(minutes=10)
ID_HEADER: Final = "webhook-id"
_SIGNATURE_HEADERS: Final = (ID_HEADER, "webhook-timestamp", "webhook-signature")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request to a webhook. What its body says counts only once the sender is known."""

    token_digest: bytes
    headers: Headers
    body: bytes
    said: Signal | InvalidBodyError | None


@dataclass(frozen=True, slots=True)
class Answer:
    """``account`` is None where it is not known, or does not let the sender in."""

    account: str | None
    refusal: Refusal | None
    error: InvalidBodyError | None = None


UNKNOWN: Final = Answer(None, Refusal.INVALID_CREDENTIALS)


class Desk:
    """Carries out what is delivered."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        self._batches: Batches[Delivery, Answer] = Batches(self._take)

    async def take(self, delivery: Delivery) -> Answer:
        """Raises UnavailableError where the outcome is unknown: the same event may come again."""
        return await self._batches.one(delivery)

    async def _take(self, deliveries: Sequence[Delivery]) -> Sequence[Answer]:
        async def work(connection: Connection) -> Sequence[Answer]:
            return await self._carry_out(connection, deliveries)

        return await self._database.transaction(work)

    async def _carry_out(self, connection: Connection, deliveries: Sequence[Delivery]) -> Sequence[Answer]:
        accounts = await repository.lock(connection, (each.token_digest for each in deliveries))
        answers: list[Answer | None] = []
        items: list[Item] = []
        for delivery in deliveries:
            account = accounts.get(delivery.token_digest)
            if account is None or not lets_in(account, delivery):
                answers.append(UNKNOWN)
            elif isinstance(delivery.said, InvalidBodyError):
                answers.append(Answer(account.id, None, delivery.said))
            elif delivery.said is None:
                answers.append(Answer(account.id, None))
            else:
                items.append(
                    Item(account, delivery.said.key(delivery.headers.get(ID_HEADER) or None), delivery.said)
                )
                answers.append(None)
        outcomes = iter(await self._execute(connection, items) if items else ())
        return [answer or next(outcomes) for answer in answers]

    async def _execute(self, connection: Connection, items: Sequence[Item]) -> Sequence[Answer]:
        known = await repository.read(connection, items)
        market = Market(self._catalogue, known.prices, known.at)
        outcomes = dict(known.answers)
        new: dict[tuple[str, bytes], Outcome] = {}
        for item in items:
            event = item.account.id, item.key
            if event not in outcomes:
                outcomes[event] = new[event] = item.account.book.execute(item.signal, market)
        if new:
            accounts = {item.account.id: item.account for item in items}
            answered = [Answered(*event, outcome) for event, outcome in new.items()]
            await repository.write(connection, accounts.values(), answered, known.at, ANSWER_MEMORY)
        return [Answer(item.account.id, outcomes[item.account.id, item.key].refusal) for item in items]


def lets_in(account: Account, delivery: Delivery) -> bool:
    """Whether the sender has shown what the account demands: its header, a verified signature, or neither."""
    if account.header_name is not None and account.header_digest is not None:
        given = delivery.headers.getall(account.header_name, [])
        if len(given) != 1 or not hmac.compare_digest(digest(given[0]), account.header_digest):
            return False
    return account.webhook_secret is None or is_signed(
        account.webhook_secret, delivery.headers, delivery.body
    )


def is_signed(secret: str, headers: Headers, body: bytes) -> bool:
    """Whether a Standard Webhooks signature of these bytes is there, made within five minutes."""
    shown: Mapping[str, str] = {name: headers[name] for name in _SIGNATURE_HEADERS if name in headers}
    try:
        Webhook(secret).verify(body, dict(shown), json_parse=False)
    except (WebhookVerificationError, ValueError):  # malformed headers are ValueErrors of several kinds
        return False
    return True


def digest(secret: str) -> bytes:
    """What is kept of a token or a header's value."""
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
