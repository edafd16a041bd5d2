"""The views, in the order of the navigation."""

from collections.abc import Callable, Sequence
from typing import Final

from console.view import Console, View
from console.views import audit, callers, configuration, database, exposures, now, quotes, webhooks

VIEWS: Final[Sequence[Callable[[Console], View]]] = (
    now.view,
    quotes.view,
    callers.view,
    exposures.view,
    audit.view,
    database.view,
    webhooks.view,
    configuration.view,
)
