"""spsp-client-proxy: looks up the payee's DFSP and adds the submissionUrl for spsp-client (Quote API §I.2)."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import environ
from aiohttp import web

from chassis.app import SERVICE
from chassis.errors import ReceiverNotFoundError, SubmissionUrlNotAllowedError, UpstreamError
from chassis.exchange import Exchange
from chassis.settings import base_url, number, one_of, whole
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, Call
from quoting.service import PEERS, ForwarderSettings, add_next_hop, create_chain_app
from spsp_client_proxy.directory import DirectoryClient, Form
from spsp_client_proxy.submission_url import receiver, with_submission_url

NAME: Final = "spsp-client-proxy"


@environ.config(prefix="QUOTES", frozen=True)
class SpspClientProxySettings(ForwarderSettings):
    """Settings of spsp-client-proxy."""

    port: int = environ.var(8011, converter=whole(0, 65_535), help="port to listen on")
    next_hop: str = environ.var("http://127.0.0.1:8012", converter=base_url, help="base URL of spsp-client")
    directory_url: str = environ.var(
        "http://127.0.0.1:8016", converter=base_url, help="base URL of the central directory"
    )
    directory_form: str = environ.var(
        "separate",
        converter=one_of("separate", "joined"),
        help="form of a look-up: identifierType=eur&identifier=1 (separate), or identifier=eur:1 (joined)",
    )
    directory_memory_seconds: float = environ.var(
        10.0, converter=number(0, 3_600), help="seconds for which an answer of the directory is cached"
    )
    directory_memory_entries: int = environ.var(
        10_000, converter=whole(1, 10_000_000), help="maximum number of cached answers"
    )


def create_app(settings: SpspClientProxySettings) -> web.Application:
    def handle(exchange: Exchange, call: Call) -> None:
        app[DIRECTORY].find_receiver(exchange, call, *receiver(call), partial(submit, exchange, call))

    def submit(exchange: Exchange, call: Call, base: str) -> None:
        next_hop.send(exchange, with_submission_url(call, base), settings.next_hop)

    async def directory(app: web.Application) -> AsyncIterator[None]:
        app[DIRECTORY] = DirectoryClient(
            app[PEERS],
            settings.directory_url,
            Form(settings.directory_form),
            settings.directory_memory_seconds,
            settings.directory_memory_entries,
        )
        yield

    def forget() -> None:
        app[DIRECTORY].forget()
        app[SERVICE].logs.info("directory answers forgotten")

    app = create_chain_app(
        NAME,
        settings,
        handle,
        required=(IDENTIFIER_TYPE, IDENTIFIER),
        errors=(ReceiverNotFoundError, SubmissionUrlNotAllowedError, UpstreamError),
    )
    next_hop = add_next_hop(app, NAME, "spsp-client")
    app.cleanup_ctx.append(directory)
    app[SERVICE].forgets.append(forget)
    return app


DIRECTORY: Final = web.AppKey("directory", DirectoryClient)
