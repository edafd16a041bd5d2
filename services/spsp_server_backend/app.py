"""spsp-server-backend: forwards every call to the payee's dfsp-api (Quote API §I.5)."""

import environ
from aiohttp import web

from chassis.settings import base_url, whole
from quoting.service import ForwarderSettings, forwarder, unchanged


@environ.config(prefix="QUOTES", frozen=True)
class SpspServerBackendSettings(ForwarderSettings):
    """Settings of spsp-server-backend."""

    port: int = environ.var(8014, converter=whole(0, 65_535), help="port to listen on")
    next_hop: str = environ.var(
        "http://127.0.0.1:8015", converter=base_url, help="base URL of the payee's dfsp-api"
    )


def create_app(settings: SpspServerBackendSettings) -> web.Application:
    return forwarder("spsp-server-backend", settings, unchanged(settings.next_hop), next_service="dfsp-api")
