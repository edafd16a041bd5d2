"""spsp-client: sends each call to the submissionUrl in it (Quote API §I.3)."""

import environ
from aiohttp import web

from chassis.errors import SubmissionUrlNotAllowedError
from chassis.settings import base_urls, whole
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE, SUBMISSION_URL, Call
from quoting.service import forwarder
from quoting.settings import ChainSettings
from spsp_client.submission_url import allowed_base, take_submission_url


@environ.config(prefix="QUOTES", frozen=True)
class SpspClientSettings(ChainSettings):
    port: int = environ.var(8012, converter=whole(0, 65_535), help="port to listen on")
    submission_urls: tuple[str, ...] = environ.var(
        "",
        converter=base_urls,
        help="base URLs that submission URLs may have, separated by commas; without one, all are rejected",
    )


def create_app(settings: SpspClientSettings) -> web.Application:
    def aim(call: Call) -> tuple[Call, str]:
        call, url = take_submission_url(call)
        return call, allowed_base(url, call.path, settings.submission_urls)

    return forwarder(
        "spsp-client",
        settings,
        aim,
        next_service="spsp-server",
        query=(IDENTIFIER_TYPE, IDENTIFIER, SUBMISSION_URL),
        required=(SUBMISSION_URL,),
        errors=(SubmissionUrlNotAllowedError,),
    )
