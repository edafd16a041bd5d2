"""A service that hands every call to one next hop: all that spsp-server and spsp-server-backend are."""

from collections.abc import Callable, Sequence

import environ
from aiohttp import web

from chassis.messages import Reply
from chassis.settings import base_url
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, Call
from quoting.express import Passage
from quoting.next_hop import Link
from quoting.server import PEERS, add_chain, create_chain_app
from quoting.settings import ChainSettings


@environ.config(prefix="QUOTES", frozen=True)
class ForwarderSettings(ChainSettings):
    """A forwarder and the base URL of its next hop."""

    next_hop: str = environ.var(converter=base_url, help="base URL of the next service of the chain")


def forwarder(
    name: str,
    settings: ChainSettings,
    aim: Callable[[Call], tuple[Call, str]],
    *,
    next_service: str,
    log_name: str | None = None,
    query: Sequence[str] = (IDENTIFIER_TYPE, IDENTIFIER),
) -> web.Application:
    """An app that sends every call where ``aim`` says, as that says; a QuotingError that it raises is the answer."""
    app = create_chain_app(name, settings, log_name=log_name, query=query)

    link = Link(lambda: app[PEERS], name, next_service)

    async def answer(call: Call) -> Reply:
        return await link.send(*aim(call))

    def start(passage: Passage) -> bool:
        call, to = aim(passage.call)
        if not link.takes(to):
            return False
        link.start(passage, call, to)
        return True

    add_chain(app, answer, start)
    return app


def unchanged(to: str) -> Callable[[Call], tuple[Call, str]]:
    """Sends each call as it came to ``to``."""
    return lambda call: (call, to)
