"""What every service of the chain can be told."""

import environ

from chassis.settings import Settings, whole
from quoting.batch_format import MAX_LINES


@environ.config(prefix="QUOTES", frozen=True)
class ChainSettings(Settings):
    """How requests travel between services of the chain."""

    batch_lines: int = environ.var(
        MAX_LINES,
        converter=whole(0, 1_000),
        help="requests in one batch between services of the chain at most; 0 takes and sends none",
    )
