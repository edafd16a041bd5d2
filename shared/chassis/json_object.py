"""A JSON object's text, member by member, each with its raw text.

Forwarders add and remove members and pass all others on as they were written: ``12.50`` never becomes
``12.5``. And what is wrong is said by field: which member is twice there, or is not JSON.
"""

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final

import msgspec

from chassis.errors import Fault, InvalidBodyError

_WHITE: Final = b" \t\n\r"
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_ESCAPED_BYTES: Final = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Literal:
    """A number as it was written: it never goes through a binary float, however long it is."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a JSON object."""

    key: str
    value: object
    raw: str
    """The value as written."""
    raw_key: str
    """The key as written, with its quotes: escapes in it may stand for what UTF-8 cannot hold."""


_DECODER: Final = json.JSONDecoder(parse_int=Literal, parse_float=Literal, parse_constant=Literal)


def members(body: bytes) -> list[Member]:
    """The members of the object that ``body`` is, in their order.

    Raises InvalidBodyError where it is not UTF-8, not JSON or no object, or a key is there twice; names the
    member where one is at fault.
    """
    text = body.decode("utf-8", "surrogateescape")
    try:
        found = _Scan(text).object()
    except _NotJsonError as error:
        raise _fault(error.key, error.message, None) from None
    seen: set[str] = set()
    faults = []
    for member in found:
        if member.key in seen:
            faults.append(Fault(member.key, "is there twice", _plain(member.value)))
        elif _ESCAPED_BYTES.search(member.raw) or _ESCAPED_BYTES.search(member.raw_key):
            faults.append(Fault(member.key, "is not UTF-8", _plain(member.value)))
        seen.add(member.key)
    if faults:
        raise InvalidBodyError(faults=faults)
    if _ESCAPED_BYTES.search(text):
        raise _fault(None, "is not UTF-8", None)
    return found


_FLAT: Final = msgspec.json.Decoder(dict[str, str])
_written: Final = msgspec.json.Encoder().encode


def flat(body: bytes) -> dict[str, str] | None:
    """The members of an object whose values are strings, written without escapes; None: look closer.

    Each member then has four quotes, so that a key that is there twice shows in their number.
    """
    if b"\\" in body:
        return None
    try:
        found = _FLAT.decode(body)
    except ValueError:  # not UTF-8, not JSON, or not so plain
        return None
    return found if body.count(b'"') == 4 * len(found) else None


def appended(body: bytes, key: str, value: str) -> bytes:
    """The object that ``body`` is, known to be one, with one more member at its end; all else as written."""
    rest = body.rstrip(_WHITE).removesuffix(b"}").rstrip(_WHITE)
    comma = b"" if rest.endswith(b"{") else b","
    return b"%s%s%s:%s}" % (rest, comma, _written(key), _written(value))


def without_last(body: bytes, key: str, value: str) -> bytes | None:
    """The object that ``body`` is without the member that :func:`appended` gave it; None where it does not end so."""
    end = b",%s:%s}" % (_written(key), _written(value))
    return body.removesuffix(end) + b"}" if body.endswith(end) else None


def write(members_: list[Member]) -> bytes:
    """The object again, each key and value as it was written."""
    return ("{" + ",".join(f"{m.raw_key}:{m.raw}" for m in members_) + "}").encode()


def _plain(value: object) -> object:
    return value if isinstance(value, str | bool | Literal) or value is None else type(value).__name__


def _fault(key: str | None, message: str, value: object) -> InvalidBodyError:
    if key is None:
        return InvalidBodyError(f"The body {message}.", faults=[Fault("body", message, value)])
    return InvalidBodyError(faults=[Fault(key, message, value)])


class _NotJsonError(Exception):
    def __init__(self, key: str | None, message: str) -> None:
        self.key = key
        self.message = message


class _Scan:
    """Reads one object; nested values with the standard library's decoder."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._key: str | None = None

    def object(self) -> list[Member]:
        if self._peek() != "{":
            try:
                json.loads(self._text)
            except (ValueError, RecursionError):
                raise _NotJsonError(None, "is not JSON") from None
            raise _NotJsonError(None, "is not a JSON object")
        self._at += 1
        found: list[Member] = []
        if self._peek() == "}":
            self._at += 1
        else:
            while True:
                found.append(self._member())
                if self._one_of(",}") == "}":
                    break
        self._key = None
        if self._peek():
            raise _NotJsonError(None, "goes on after its end")
        return found

    def _member(self) -> Member:
        self._key = None
        self._one_of('"')
        begin = self._at - 1
        try:
            key, self._at = scanstring(self._text, self._at, True)
        except ValueError:
            raise _NotJsonError(None, "is not JSON") from None
        self._key = key
        raw_key = self._text[begin : self._at]
        self._one_of(":")
        self._peek()
        begin = self._at
        try:
            value, self._at = _DECODER.raw_decode(self._text, begin)
        except RecursionError:
            raise _NotJsonError(key, "is nested too deeply") from None
        except ValueError:
            raise _NotJsonError(key, "is not JSON") from None
        return Member(key, value, self._text[begin : self._at], raw_key)

    def _peek(self) -> str:
        """The next character that is no white space, empty at the end."""
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _one_of(self, allowed: str) -> str:
        character = self._peek()
        if not character or character not in allowed:
            raise _NotJsonError(self._key, "is not JSON, or what follows it is not")
        self._at += 1
        return character
