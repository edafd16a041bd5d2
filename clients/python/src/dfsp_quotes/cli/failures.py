"""Exit codes, and the failures that lead to them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from http import HTTPStatus
from typing import Final

from dfsp_quotes import QuoteError

PROJECT_PACKAGES: Final = frozenset({"chassis", "dfsp_api", "network", "quoting"})


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    REFUSED = 1
    """The service refused the request, or a check found a fault."""
    BAD_INPUT = 2
    """An argument, a setting or a file is wrong. Nothing was carried out."""
    NO_ANSWER = 3
    """No valid response arrived. The request may have been carried out; repeating it is safe."""
    INTERRUPTED = 130


class CommandError(Exception):
    """The command failed. The message is one sentence for people."""

    exit_code = ExitCode.REFUSED

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        """`details` are further members of the error object of `--json`."""
        super().__init__(message)
        self.message = message
        self.details = details or {}


class BadInputError(CommandError):
    """An argument, a setting or a file is wrong."""

    exit_code = ExitCode.BAD_INPUT


class NoAnswerError(CommandError):
    """No valid response arrived."""

    exit_code = ExitCode.NO_ANSWER


class InterruptedCommandError(CommandError):
    """Ctrl-C ended a request whose outcome is unknown."""

    exit_code = ExitCode.INTERRUPTED


def failure_of(error: QuoteError) -> CommandError:
    """Return the failure that an error of the client is."""
    message = "; ".join(f"{name}: {text}" for name, text in error.fields.items()) or error.message
    if error.idempotency_key is not None and error.is_outcome_unknown:
        message += f" The same request with --key {error.idempotency_key} repeats it."
    details = {
        "id": error.id,
        "status": error.status,
        "service": error.service,
        "traceId": error.trace_id,
        "fields": dict(error.fields),
        "idempotencyKey": error.idempotency_key,
        "retryAfter": error.retry_after,
        "isOutcomeUnknown": error.is_outcome_unknown,
    }
    return _kind(error)(f"{message} ({_origin(error)})", details)


def _kind(error: QuoteError) -> type[CommandError]:
    if error.status == HTTPStatus.BAD_REQUEST and not error.is_outcome_unknown:
        return BadInputError
    is_answer = error.status is not None and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return CommandError if is_answer and not error.is_outcome_unknown else NoAnswerError


def _origin(error: QuoteError) -> str:
    parts = [error.id, f"service {error.service}" if error.service else ""]
    return ", ".join([*filter(None, parts), f"trace id {error.trace_id}"])


@contextmanager
def project_packages() -> Iterator[None]:
    """Turn a missing package of the quoting project into a BadInputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PROJECT_PACKAGES:
            raise
        raise BadInputError(
            "This command needs the packages of the quoting project: run it with the project's own .venv/bin/quotes."
        ) from None
