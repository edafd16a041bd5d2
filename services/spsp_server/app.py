"""spsp-server: forwards every call to spsp-server-backend at the same DFSP (Quote API §I.4)."""

import environ
from aiohttp import web

from chassis.settings import base_url, whole
from quoting.service import ForwarderSettings, forwarder, unchanged


@environ.config(prefix="QUOTES", frozen=True)
class SpspServerSettings(ForwarderSettings):
    """Settings of spsp-server."""

    port: int = environ.var(8013, converter=whole(0, 65_535), help="port to listen on")
    next_hop: str = environ.var(
        "http://127.0.0.1:8014", converter=base_url, help="base URL of spsp-server-backend"
    )


def create_app(settings: SpspServerSettings) -> web.Application:
    return forwarder(
        "spsp-server", settings, unchanged(settings.next_hop), next_service="spsp-server-backend"
    )
