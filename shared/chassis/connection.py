"""One connection: what comes plain and in whole is answered here, all else by aiohttp."""

import asyncio
import socket
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aiohttp import hdrs

from chassis.app import Service, refused
from chassis.asked import Response
from chassis.errors import PayloadTooLargeError, UnavailableError
from chassis.pace import waited_in
from chassis.plain import Plain, plain
from chassis.written import LAST_CHUNK, begun, chunk

if TYPE_CHECKING:
    from chassis.listener import Handler, Server

MAX_HELD_BYTES: Final = 64 * 1024


class Connection(asyncio.Protocol):
    """One connection.

    A request that is plain, has come in whole and is for a route of ours is answered here. All else is aiohttp's,
    and what comes next on the connection too, until it is known again where a request begins. Aiohttp's part is
    made when it is needed: most connections never do, and under overload, when each of thousands has a request once
    in a while, what has to be touched for it costs as much as what is done with it.
    """

    __slots__ = (
        "_answering",
        "_answers",
        "_came",
        "_ended",
        "_handler",
        "_held",
        "_is_answering",
        "_is_last",
        "_may_write",
        "_quiet",
        "_seen",
        "_server",
        "_to_come",
        "service",
        "socket",
        "transport",
    )

    def __init__(self, server: "Server", connection: socket.socket | None) -> None:
        """``connection`` is the accepted socket itself.

        Each look through what uvloop puts in its place costs eight times as much.
        """
        self.service: Service = server.service
        self.socket = connection
        self.transport: asyncio.Transport | None = None
        self._server = server
        self._handler: Handler | None = None
        self._is_last = False
        """Whether nothing more is taken."""
        self._is_answering = False
        """Whether a request is being answered here."""
        self._answering: asyncio.Task[None] | None = None
        """What does that, where it takes a task."""
        self._ended: asyncio.Future[None] | None = None
        """Who waits for the end of that."""
        self._may_write: asyncio.Future[None] | None = None
        """Where the caller does not read what he asks for: done when he does again."""
        self._held = b""
        self._came: float | None = None
        """When what is held came, where it is in the waiting room; on the monotonic clock."""
        self._to_come: int | None = 0
        """Bytes of the request that aiohttp reads; None where nobody knows."""
        self._answers = 0
        self._seen = 0
        """Of requests, at the last look."""
        self._quiet = 0
        """Looks in a row without a request."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self._is_answering and (self._handler is None or self._handler.is_idle)

    @property
    def _is_ending(self) -> bool:
        return self._is_last or (self._handler is not None and self._handler.is_ending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server.opened(self)
        if self._server.is_closing:
            self.end()  # taken on a moment too late: nothing was begun, so the caller may repeat

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self, self._handler)
        self.transport = None
        if self._handler is not None:
            self._handler.connection_lost(exc)
        self.resume_writing()

    def pause_writing(self) -> None:
        self._may_write = asyncio.get_running_loop().create_future()
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        waiting, self._may_write = self._may_write, None
        if waiting is not None:
            waiting.set_result(None)
            if self._handler is not None and self.transport is not None:
                self._handler.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._is_answering:
            self._hold(data)
        elif self.service.room.is_for_who_comes and not self._to_come and self.is_idle:
            self._is_answering = True
            self._hold(data)
            self._came = time.monotonic() - waited_in(self.socket)
            self.service.room.add(self._enter)
        else:
            self._look_at(data)

    def _enter(self) -> None:
        """Leaves the waiting room, if it has not before its turn."""
        came, self._came = self._came, None
        if came is None:
            return
        self._is_answering = False
        try:
            if self.transport is not None and not self.transport.is_closing():
                self._look_at(self._release(), came)
        except BaseException:  # as the event loop does with what fails as soon as it is read
            self._break_off()
            raise
        finally:
            if not self._is_answering:
                self._tell_who_waits()

    def _look_at(self, data: bytes, came: float | None = None) -> None:
        if self._is_answered_here(data, came):
            return
        if self._handler is None:
            if self._is_last and came is None:
                return
            self._handler = self._server.handler_of(self)
            if self._may_write is not None:
                self._handler.pause_writing()
        self._handler.data_received(data)

    def _is_answered_here(self, data: bytes, came: float | None) -> bool:
        """Begins to answer ``data`` where that is a request for here; else sees where it ends."""
        if not data or self._to_come is None or (self._is_ending and came is None):
            return False
        if self._to_come:
            self._to_come -= len(data)
            if self._to_come < 0:
                self._to_come = None
            return False
        request = plain(data)
        self._to_come = None if request is None else request.missing
        return request is not None and not request.missing and self.is_idle and self._begin(request, came)

    def _begin(self, request: Plain, came: float | None) -> bool:
        waited = None if came is None else time.monotonic() - came
        if self._is_turned_away(request, waited):
            return True
        asked = _Whole(request, self, waited)
        was_last = self._is_last
        self._is_answering = True
        self._is_last = was_last or request.is_last
        express = self.service.express
        if express is not None and express(asked, self._respond):
            return True
        for direct in self.service.direct:
            responding = direct(asked)
            if responding is not None:
                self._answering = asyncio.get_running_loop().create_task(self._answer(responding))
                return True
        self._is_answering, self._is_last = False, was_last
        return False

    def _is_turned_away(self, request: Plain, waited: float | None) -> bool:
        turned_away = self.service.turned_away
        if turned_away is None or self._may_write is not None:
            return False
        if self.transport is None or self.transport.is_closing():
            return False
        is_last = self._is_last or self.service.is_leaving or request.is_last
        response = turned_away(request, waited, is_last=is_last)
        if response is None:
            return False
        self._is_last = is_last
        self._answers += 1
        self.transport.write(response)
        if is_last:
            self.end()
        return True

    def _respond(self, response: Response) -> None:
        """Writes a response that is there in whole; in a task only where the caller does not read what he asks for."""
        if self._may_write is not None:
            self._answering = asyncio.get_running_loop().create_task(self._answer(_there(response)))
            return
        try:
            self._begin_response(response)
        except ConnectionError:
            self.end()  # the caller has gone
        except Exception as error:  # noqa: BLE001 - there may be others to be told behind this one
            self._break_off()
            told = {"message": "a response was not written", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
        self._end_answer()
        self._go_on()

    def _hold(self, data: bytes) -> None:
        """Keeps what comes before its turn."""
        before = len(self._held)
        self._held += data
        if before < MAX_HELD_BYTES <= len(self._held):
            self._read_on(False)

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        if len(held) >= MAX_HELD_BYTES:
            self._read_on(True)
        return held

    def _read_on(self, is_wanted: bool) -> None:
        if self.transport is not None and not self.transport.is_closing():
            (self.transport.resume_reading if is_wanted else self.transport.pause_reading)()

    async def _answer(self, responding: Awaitable[Response]) -> None:
        try:
            await self._write(await self._responded(responding))
        except ConnectionError:
            self.end()
        except BaseException:
            self._break_off()
            raise
        finally:
            self._end_answer()
        self._go_on()

    def _break_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _end_answer(self) -> None:
        self._is_answering = False
        self._answering = None
        self._answers += 1
        self._tell_who_waits()

    def _tell_who_waits(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _responded(self, responding: Awaitable[Response]) -> Response:
        try:
            return await responding
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer
            self._is_last = True
            return refused(UnavailableError("The service failed.", cause=repr(error)), self.service)

    def _begin_response(self, response: Response) -> None:
        """Raises ConnectionResetError where the caller has gone."""
        is_last = self._is_last or self.service.is_leaving
        self._is_last = is_last
        self._write_more(begun(response, is_last=is_last))

    async def _write(self, response: Response) -> None:
        self._begin_response(response)
        await self._written()
        if response.rest is None:
            return
        async for more in response.rest:
            self._write_more(chunk(more))
            await self._written()
        self._write_more(LAST_CHUNK)

    def _write_more(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        self.transport.write(data)

    async def _written(self) -> None:
        """Returns when more may be written."""
        if self._may_write is not None:
            await asyncio.shield(self._may_write)

    def _go_on(self) -> None:
        """Ends the connection after its last response, or turns to what came meanwhile."""
        if self._is_last or self.transport is None or self.transport.is_closing():
            self.end()
        elif self._held:
            self.data_received(self._release())

    def eof_received(self) -> bool:
        """A client that has sent all it will may still read: it gets its answer.

        Without this a truncated body would end in a closed connection instead of a 400. The request need not
        have been begun: its last bytes and the end may come together.
        """
        self._enter()  # what comes after this would not be begun any more
        if self.is_idle:
            return False
        self._is_last = True
        if self._handler is not None:
            self._handler.take_no_more()
        return True

    def end(self) -> None:
        """Closes the connection once what has been written has gone out."""
        self._is_last = True
        if self.transport is not None:
            self.transport.close()

    def close_if_idle(self) -> None:
        """Closes a connection on which no request is under way."""
        if self.is_idle:
            self.end()

    def close_if_quiet(self, looks: int) -> None:
        """Closes one that had no request in so many looks in a row; this is one."""
        seen = self._answers + (self._handler.requests if self._handler is not None else 0)
        if seen != self._seen or not self.is_idle:
            self._seen, self._quiet = seen, 0
            return
        self._quiet += 1
        if self._quiet >= looks:
            self.end()

    def close(self) -> None:
        """Takes nothing more."""
        self._is_last = True
        if self._handler is not None:
            self._handler.close()
        self.close_if_idle()

    async def shutdown(self, seconds: float | None) -> None:
        """Ends the connection; what is under way has ``seconds``, and where aiohttp answers, twice that."""
        self._is_last = True
        if self._is_answering:
            self._ended = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended
        if self._handler is not None:
            await self._handler.shutdown(seconds)
        if self._answering is not None:
            self._answering.cancel()
        self.end()


async def _there(response: Response) -> Response:
    return response


class _Whole:
    """A request that came plain and in whole."""

    __slots__ = ("_on", "body", "headers", "method", "path", "query", "waited")

    def __init__(self, request: Plain, on: Connection, waited: float | None) -> None:
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.body = request.body
        self.waited = waited
        self._on = on

    @property
    def address(self) -> str:
        peer = self._about("peername")
        return str(peer[0]) if isinstance(peer, (list, tuple)) else str(peer or "")

    @property
    def origin(self) -> str:
        scheme = "http" if self._about("sslcontext") is None else "https"
        return f"{scheme}://{self.headers[hdrs.HOST]}"

    def _about(self, what: str) -> object:
        return None if self._on.transport is None else self._on.transport.get_extra_info(what)

    @property
    def connection(self) -> socket.socket | None:
        return self._on.socket

    async def read(self, max_bytes: int) -> bytes:
        if len(self.body) > max_bytes:
            raise PayloadTooLargeError
        return self.body
