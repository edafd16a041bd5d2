"""The payer role of dfsp-api: checks requests of this DFSP and sends them to the next hop (Quote API §I.1)."""

from typing import Final

import environ
from aiohttp import web

from chassis.errors import ReceiverNotFoundError, SubmissionUrlNotAllowedError
from chassis.schemas import check_query
from chassis.settings import base_url, whole
from quoting import schemas, validation
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, Call, Operation
from quoting.service import ForwarderSettings, forwarder

NAME: Final = "dfsp-api"
LOG_NAME: Final = "dfsp-api-payer"


@environ.config(prefix="QUOTES", frozen=True)
class PayerSettings(ForwarderSettings):
    port: int = environ.var(8010, converter=whole(0, 65_535), help="port to listen on")
    next_hop: str = environ.var(
        "http://127.0.0.1:8011", converter=base_url, help="base URL of spsp-client-proxy"
    )


def create_app(settings: PayerSettings) -> web.Application:
    def aim(call: Call) -> tuple[Call, str]:
        check(call)
        return call, settings.next_hop

    return forwarder(
        NAME,
        settings,
        aim,
        next_service="spsp-client-proxy",
        log_name=LOG_NAME,
        required=(IDENTIFIER_TYPE, IDENTIFIER),
        errors=(ReceiverNotFoundError, SubmissionUrlNotAllowedError),
    )


def check(call: Call) -> None:
    """Check a request before it leaves this DFSP. Raises an error that names all faults at once."""
    if call.body is None:
        check_query(schemas.RECEIVER, call.query)
    else:
        (validation.payment if call.operation is Operation.EXECUTE else validation.reservation)(call.body)
