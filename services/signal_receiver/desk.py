"""Where events are carried out: a batch is read in one statement and written in another (design, "Receiver").

Inbox, positions, funds and answers change together or not at all. So an event that is answered has been carried
out once, however often it comes, and one that was not answered can come again. The accounts are not locked in
between, as each statement less is a round trip less to every answer: where another process has changed one
meanwhile, nothing is written of it, and its events are carried out once more, with the account locked.
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
from signal_receiver.repository import Account, Answered, Asked, Fetch, Known
from signal_receiver.trading import Market

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


@dataclass(frozen=True, slots=True)
class Item:
    """A signal for an account that it was let in for."""

    account: Account
    key: bytes
    signal: Signal


UNKNOWN: Final = Answer(None, Refusal.INVALID_CREDENTIALS)


class Desk:
    """Carries out what is delivered."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue
        # two batches with the same account would change it under each other
        self._batches: Batches[Delivery, Answer] = Batches(self._take, lambda each: each.token_digest)

    async def take(self, delivery: Delivery) -> Answer:
        """Raises UnavailableError where the outcome is unknown: the same event may come again."""
        return await self._batches.one(delivery)

    async def _take(self, deliveries: Sequence[Delivery]) -> Sequence[Answer]:
        found = await self._carry_out(self._database.fetch, deliveries)
        overtaken = [each for each, answer in zip(deliveries, found, strict=True) if answer is None]
        again = iter(await self._take_locked(overtaken) if overtaken else ())
        return [answer or next(again) for answer in found]

    async def _take_locked(self, deliveries: Sequence[Delivery]) -> Sequence[Answer]:
        async def work(connection: Connection) -> Sequence[Answer | None]:
            await repository.lock(connection, (each.token_digest for each in deliveries))
            return await self._carry_out(connection.fetch, deliveries)

        found = await self._database.transaction(work)
        answers = [answer for answer in found if answer is not None]
        assert len(answers) == len(deliveries)  # noqa: S101 - nobody else could change anything
        return answers

    async def _carry_out(self, fetch: Fetch, deliveries: Sequence[Delivery]) -> Sequence[Answer | None]:
        """None for events whose accounts have been changed meanwhile: nothing of theirs is written."""
        asked = [_asked(each) for each in deliveries]
        known = await repository.read(fetch, asked)
        items: list[Item] = []
        answers: list[Answer | None] = []
        for delivery, account, each in zip(deliveries, known.accounts, asked, strict=True):
            if account is None or not lets_in(account, delivery):
                answers.append(UNKNOWN)
            elif each.signal is None or each.key is None:
                error = delivery.said if isinstance(delivery.said, InvalidBodyError) else None
                answers.append(Answer(account.id, None, error))
            else:
                items.append(Item(account, each.key, each.signal))
                answers.append(None)
        outcomes = iter(await self._execute(fetch, items, known))
        return [answer or next(outcomes) for answer in answers]

    async def _execute(self, fetch: Fetch, items: Sequence[Item], known: Known) -> Sequence[Answer | None]:
        market = Market(self._catalogue, known.prices, known.at)
        outcomes = dict(known.answers)
        new: dict[tuple[str, bytes], Answered] = {}
        changed: dict[str, Account] = {}
        for item in items:
            event = item.account.id, item.key
            if event not in outcomes:
                outcomes[event] = item.account.book.execute(item.signal, market)
                new[event] = Answered(*event, outcomes[event])
                changed[item.account.id] = item.account
        written = (
            await repository.write(fetch, list(changed.values()), list(new.values()), known.at, ANSWER_MEMORY)
            if new
            else set()
        )
        overtaken = changed.keys() - written
        return [
            None
            if item.account.id in overtaken
            else Answer(item.account.id, outcomes[item.account.id, item.key].refusal)
            for item in items
        ]


def _asked(delivery: Delivery) -> Asked:
    signal = delivery.said if isinstance(delivery.said, Signal) else None
    key = signal.key(delivery.headers.get(ID_HEADER) or None) if signal is not None else None
    return Asked(delivery.token_digest, key, signal)


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
