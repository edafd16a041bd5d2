"""Asks the service on this machine whether it is ready: ``python -m chassis.health``, a container's check.

Reads the same environment as the service. Exit status 0 when ready.
"""

import asyncio
import os
import ssl
import sys

import aiohttp

from chassis.settings import Settings, load
from chassis.tls import Tls

SECONDS = 3.0


async def is_ready(settings: Settings) -> bool:
    """Whether /health/ready answers 200."""
    tls = Tls(settings)
    context: ssl.SSLContext | bool = True
    if tls.server is not None:
        context = tls.client
        # the certificate is the service's name's; who listens on our own loopback is not the question
        context.check_hostname = False
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
    url = f"{'http' if tls.server is None else 'https'}://{host}:{settings.port}/health/ready"
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
        session.get(url, ssl=context) as answer,
    ):
        return answer.status == 200  # noqa: PLR2004


def main() -> int:
    try:
        settings = load(Settings, {"QUOTES_USERS_FILE": os.devnull, **os.environ})
        return 0 if asyncio.run(is_ready(settings)) else 1
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        print(f"not ready: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
