"""Settings of every service of the chain."""

import environ

from chassis.settings import Settings, whole
from quoting.batch_format import MAX_LINES


@environ.config(prefix="QUOTES", frozen=True)
class ChainSettings(Settings):
    """Settings of a service that sends requests to other services of the chain, or receives them."""

    batch_lines: int = environ.var(
        MAX_LINES,
        converter=whole(0, 1_000),
        help="maximum number of requests in one batch between services of the chain; 0 switches batches off",
    )
