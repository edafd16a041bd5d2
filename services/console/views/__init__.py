"""The views, in the order of the navigation."""

from collections.abc import Callable, Sequence
from typing import Final

from console.view import Console, View
from console.views import callers, configuration, database, now

VIEWS: Final[Sequence[Callable[[Console], View]]] = (
    now.view,
    callers.view,
    database.view,
    configuration.view,
)
