"""*Audit log*: the last checkpoint of the payee's audit log, for comparison with those that are kept elsewhere."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from chassis.errors import UnavailableError
from chassis.queries import query_of
from console.quote_list import faults_of
from console.view import Console, View

PATH: Final = "/audit"
PAYEE: Final = "dfsp-api"
MAX_NOTE_BYTES: Final = 16_384
OK: Final = 200
NOT_FOUND: Final = 404
_LINES: Final = 3


@dataclass(frozen=True)
class ShownCheckpoint:
    """A checkpoint as the payee has sent it; the console has no key to verify it with."""

    log: str
    size: str
    root: str
    note: str


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        query_of(request)
        checkpoint, problems = await _read(console)
        return console.render(request, "audit.html", {"checkpoint": checkpoint, "problems": problems})

    return View("Audit log", PATH, [web.get(PATH, show)])


def shown_checkpoint(body: bytes) -> ShownCheckpoint | None:
    """Return the checkpoint in a reply; None if the reply is not a checkpoint."""
    note = body[:MAX_NOTE_BYTES].decode(errors="replace")
    lines = note.split("\n")
    if len(lines) <= _LINES or lines[_LINES] or not lines[1].isdecimal():
        return None
    return ShownCheckpoint(lines[0], f"{int(lines[1]):,}", lines[2], note)


async def _read(console: Console) -> tuple[ShownCheckpoint | None, list[str]]:
    """Return the checkpoint, None if the payee has no audit log, and the problems, if there are any."""
    try:
        reply = await console.fleet.client.request(PAYEE, "GET", "/v1/audit/checkpoint")
        if reply.status == NOT_FOUND:
            return None, []
        if reply.status != OK:
            return None, faults_of(reply.json())
    except UnavailableError as error:
        return None, [f"The payee's audit log cannot be read: {error.message}"]
    checkpoint = shown_checkpoint(reply.body)
    return checkpoint, [] if checkpoint is not None else ["The payee's response is not a checkpoint."]
