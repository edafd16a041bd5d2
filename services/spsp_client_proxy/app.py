"""spsp-client-proxy: asks the directory whose the receiver is and says so to spsp-client (Quote API §I.2)."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import environ
from aiohttp import web

from chassis.app import SERVICE
from chassis.errors import Fault, InvalidBodyError, UnavailableError
from chassis.json_object import appended, flat, members
from chassis.messages import Reply
from chassis.schemas import check, check_query
from chassis.settings import base_url, number, one_of, whole
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, SUBMISSION_URL, Call
from quoting.express import Passage
from quoting.forwarder import ForwarderSettings
from quoting.next_hop import Link
from quoting.schemas import RECEIVER
from quoting.server import PEERS, add_chain, create_chain_app
from quoting.validation import is_receiver
from spsp_client_proxy.directory import Directory, Form, LookUp

NAME: Final = "spsp-client-proxy"


@environ.config(prefix="QUOTES", frozen=True)
class SpspClientProxySettings(ForwarderSettings):
    """Where spsp-client and the directory are, and how the directory is asked."""

    port: int = environ.var(8011, converter=whole(0, 65_535), help="port to listen on")
    next_hop: str = environ.var("http://127.0.0.1:8012", converter=base_url, help="base URL of spsp-client")
    directory_url: str = environ.var(
        "http://127.0.0.1:8016", converter=base_url, help="base URL of the central directory"
    )
    directory_form: str = environ.var(
        "separate",
        converter=one_of("separate", "joined"),
        help="how the directory is asked: identifierType=eur&identifier=1, or identifier=eur:1",
    )
    directory_memory_seconds: float = environ.var(
        10.0, converter=number(0, 3_600), help="how long an answer of the directory is remembered"
    )
    directory_memory_entries: int = environ.var(
        10_000, converter=whole(1, 10_000_000), help="how many answers are remembered at most"
    )


def create_app(settings: SpspClientProxySettings) -> web.Application:
    app = create_chain_app(NAME, settings)

    async def find_receiver(app: web.Application) -> AsyncIterator[None]:
        app[DIRECTORY] = Directory(
            app[PEERS],
            settings.directory_url,
            Form(settings.directory_form),
            settings.directory_memory_seconds,
            settings.directory_memory_entries,
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: _forget(app))
        yield
        loop.remove_signal_handler(signal.SIGHUP)
        await app[DIRECTORY].close()

    app.cleanup_ctx.append(find_receiver)

    link = Link(lambda: app[PEERS], NAME, "spsp-client")

    async def answer(call: Call) -> Reply:
        directory = app[DIRECTORY]
        base = await directory.receiver_of(call, directory.key(call, *receiver(call)))
        return await link.send(submitted_to(call, base + call.path), settings.next_hop)

    def start(passage: Passage) -> bool:
        call, directory = passage.call, app[DIRECTORY]
        if not link.takes(settings.next_hop):
            return False
        key = directory.key(call, *receiver(call))
        base = directory.known(key)
        if base is None:
            _find(passage, directory.look_up(call, key), go_on)
        else:
            go_on(passage, base)
        return True

    def go_on(passage: Passage, base: str) -> None:
        call = passage.call
        link.start(passage, submitted_to(call, base + call.path), settings.next_hop)

    add_chain(app, answer, start)
    return app


DIRECTORY: Final = web.AppKey("directory", Directory)


def _find(passage: Passage, look_up: LookUp, go_on: Callable[[Passage, str], None]) -> None:
    """Goes on with ``passage`` once its receiver has been found; who is told an error, or gives up, waits no more."""

    def told(error: Exception) -> Exception:
        look_up.leave()
        return error

    def found(task: asyncio.Task[str]) -> None:
        if passage.is_settled:
            task.cancelled() or task.exception()  # nobody else may have looked
            return
        try:
            base = task.result()
        except asyncio.CancelledError:
            passage.fail(UnavailableError(cause="the service stops"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            passage.fail(error)
        else:
            look_up.leave()
            passage.proceed(partial(go_on, passage, base))

    passage.told = told
    look_up.task.add_done_callback(found)


def _forget(app: web.Application) -> None:
    app[DIRECTORY].forget()
    app[SERVICE].logs.info("directory answers forgotten")


def receiver(call: Call) -> tuple[str, str]:
    """Whom the call is for: identifierType and identifier. Raises where they are missing or no such."""
    if call.body is None:
        found = check_query(RECEIVER, call.query)
    else:
        found = flat(call.body) or {}
        if SUBMISSION_URL in found or not is_receiver(found):
            found = _looked_closer(call.body)
    return found[IDENTIFIER_TYPE], found[IDENTIFIER]


def _looked_closer(body: bytes) -> dict[str, str]:
    every = members(body)
    if any(each.key == SUBMISSION_URL for each in every):
        raise InvalidBodyError(faults=[Fault(SUBMISSION_URL, "is not a field of this message")])
    return check(RECEIVER, [each for each in every if each.key in {IDENTIFIER, IDENTIFIER_TYPE}])


def submitted_to(call: Call, url: str) -> Call:
    """The call with its submissionUrl; all else of it as written."""
    if call.body is None:
        return call.with_query((*call.query, (SUBMISSION_URL, url)))
    return call.with_body(appended(call.body, SUBMISSION_URL, url))
