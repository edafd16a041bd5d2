"""JSON objects as lists of members, each with its original text.

Forwarders add and remove members and pass on all others unchanged: ``12.50`` never becomes ``12.5``. If a member is
not JSON or occurs twice, the error names this member.
"""

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final

import msgspec
import orjson

from chassis.errors import Fault, InvalidBodyError

MAX_MEMBERS: Final = 100
"""Maximum number of members. No valid message has as many, and to read ten thousand takes a tenth of a second."""

_WHITE: Final = b" \t\n\r"
_OPENING: Final = re.compile(r"[ \t\n\r]*\{[ \t\n\r]*(\}?)")
_QUOTE: Final = re.compile(r'[ \t\n\r]*"')
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_SEPARATOR: Final = re.compile(r"[ \t\n\r]*([,}])")
_END: Final = re.compile(r"[ \t\n\r]*\Z")
_ESCAPED_BYTES: Final = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Literal:
    """A JSON number as text, because a binary float would change it."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a JSON object. ``raw`` and ``raw_key`` are its value and key exactly as in the body."""

    key: str
    value: object
    raw: str
    raw_key: str


def members(body: bytes) -> list[Member]:
    """Return the members of the JSON object in ``body``, in their order.

    Raises InvalidBodyError if the body is not a JSON object in UTF-8, has a key twice, or has more than 100 members.
    """
    text = body.decode("utf-8", "surrogateescape")
    found = _scan(text)
    seen: set[str] = set()
    faults = []
    for member in found:
        if member.key in seen:
            faults.append(Fault(member.key, "occurs twice", _plain(member.value)))
        elif _ESCAPED_BYTES.search(member.raw) or _ESCAPED_BYTES.search(member.raw_key):
            faults.append(Fault(member.key, "is not UTF-8", _plain(member.value)))
        seen.add(member.key)
    if faults:
        raise InvalidBodyError(faults=faults)
    if _ESCAPED_BYTES.search(text):
        raise _invalid(None, "is not UTF-8")
    return found


_FLAT: Final = msgspec.json.Decoder(dict[str, str])
_written: Final = msgspec.json.Encoder().encode


def flat(body: bytes) -> dict[str, str] | None:
    """Return the members of a JSON object if all values are strings without escapes, else None.

    This is the fast path. Each member of such an object has four quotation marks. If the text has more than four for
    each member that was found, a key occurs twice, and the result is None.
    """
    if b"\\" in body:
        return None
    try:
        found = _FLAT.decode(body)
    except ValueError:
        return None
    return found if body.count(b'"') == 4 * len(found) else None


def object_in(body: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None if the body is anything else."""
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def appended(body: bytes, key: str, value: str) -> bytes:
    """Return the text of a JSON object with one more member at its end. The rest of the text is unchanged."""
    rest = body.rstrip(_WHITE).removesuffix(b"}").rstrip(_WHITE)
    comma = b"" if rest.endswith(b"{") else b","
    return b"%s%s%s:%s}" % (rest, comma, _written(key), _written(value))


def without_last(body: bytes, key: str, value: str) -> bytes | None:
    """Return the text of a JSON object without the member that :func:`appended` added at its end.

    Return None if the text does not end with exactly this member.
    """
    end = b",%s:%s}" % (_written(key), _written(value))
    return body.removesuffix(end) + b"}" if body.endswith(end) else None


def write(members_: list[Member]) -> bytes:
    """Return the text of a JSON object with these members. Each member keeps its original text."""
    return ("{" + ",".join(f"{m.raw_key}:{m.raw}" for m in members_) + "}").encode()


def _plain(value: object) -> object:
    return value if isinstance(value, str | bool | Literal) or value is None else type(value).__name__


def _invalid(key: str | None, message: str) -> InvalidBodyError:
    if key is None:
        return InvalidBodyError(f"The body {message}.", faults=[Fault("body", message)])
    return InvalidBodyError(faults=[Fault(key, message)])


class _DuplicateKeyError(Exception):
    pass


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a nested object. Raises _DuplicateKeyError for a key that occurs twice: its value would be ambiguous."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DuplicateKeyError
    return found


_DECODER: Final = json.JSONDecoder(
    parse_int=Literal, parse_float=Literal, parse_constant=Literal, object_pairs_hook=_without_duplicates
)


_UNIQUE: Final = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_without_duplicates
)


def require_unique_keys(body: bytes) -> None:
    """Raise InvalidBodyError if the body is not JSON in UTF-8, or if an object at any depth has a key twice.

    Call it before a reader, such as msgspec, that uses the last of two values without an error.
    """
    try:
        if orjson.dumps(orjson.loads(body)) == body:
            return  # compact JSON, as most programs send it; orjson drops a key that occurs twice
    except (ValueError, TypeError):  # not JSON, or nested too deeply for orjson
        pass
    try:
        _UNIQUE.decode(body.decode())
    except UnicodeDecodeError:
        raise _invalid(None, "is not UTF-8") from None
    except _DuplicateKeyError:
        raise _invalid(None, "holds an object in which a key occurs twice") from None
    except (ValueError, RecursionError):
        raise _invalid(None, "is not JSON") from None


def _scan(text: str) -> list[Member]:
    """Return the members of one JSON object. Raises InvalidBodyError."""
    opening = _OPENING.match(text)
    if opening is None:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise _invalid(None, "is not JSON") from None
        raise _invalid(None, "is not a JSON object")
    found: list[Member] = []
    at, has_next = opening.end(), not opening[1]
    while has_next:
        member, at = _member(text, at)
        found.append(member)
        if len(found) > MAX_MEMBERS:
            raise _invalid(None, f"has more than {MAX_MEMBERS} members")
        separator = _expect(_SEPARATOR, text, at, member.key)
        at, has_next = separator.end(), separator[1] == ","
    if not _END.match(text, at):
        raise _invalid(None, "has further text after the JSON object")
    return found


def _member(text: str, at: int) -> tuple[Member, int]:
    """Return the member that begins at this position, and its end. The standard library reads nested values."""
    begin = _expect(_QUOTE, text, at, None).end() - 1
    try:
        key, at = scanstring(text, begin + 1, True)
    except ValueError:
        raise _invalid(None, "is not JSON") from None
    raw_key = text[begin:at]
    begin = _expect(_COLON, text, at, key).end()
    try:
        value, at = _DECODER.raw_decode(text, begin)
    except RecursionError:
        raise _invalid(key, "is nested too deeply") from None
    except _DuplicateKeyError:
        raise _invalid(key, "holds an object in which a key occurs twice") from None
    except ValueError:
        raise _invalid(key, "is not JSON") from None
    return Member(key, value, text[begin:at], raw_key), at


def _expect(pattern: re.Pattern[str], text: str, at: int, key: str | None) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise _invalid(key, "is not JSON or is followed by text that is not JSON")
    return found
