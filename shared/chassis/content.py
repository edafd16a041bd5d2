"""Checks of request bodies: media type and size (wire.md §2, §4)."""

from collections.abc import Mapping
from typing import Final

from chassis.errors import PayloadTooLargeError, UnsupportedMediaTypeError

JSON: Final = "application/json"
MAX_BODY_BYTES: Final = 64 * 1024

_UTF_8: Final = frozenset({"utf-8", "utf8"})
_UNNAMED_TYPES: Final = frozenset({"", "application/x-www-form-urlencoded"})


def require_json(headers: Mapping[str, str]) -> None:
    """Raise UnsupportedMediaTypeError unless the headers allow the body to be read as JSON.

    A request without a Content-Type, or with curl's default Content-Type, is accepted too, unless a browser sent it.
    """
    content_type = headers.get("content-type", "")
    is_from_browser = "origin" in headers
    if (content_type == JSON or not (content_type or is_from_browser)) and "content-encoding" not in headers:
        return
    media_type, charset = _media_type(content_type)
    is_json = media_type == JSON or (media_type in _UNNAMED_TYPES and not is_from_browser)
    if not is_json or charset not in _UTF_8 or "content-encoding" in headers:
        raise UnsupportedMediaTypeError


def is_of_type(headers: Mapping[str, str], media_type: str) -> bool:
    """Whether the headers announce a body of exactly this media type, in UTF-8 and without Content-Encoding."""
    named, charset = _media_type(headers.get("content-type", ""))
    return named == media_type and charset in _UTF_8 and "content-encoding" not in headers


def _media_type(content_type: str) -> tuple[str, str]:
    """Return the media type and the charset of a Content-Type, both in lower case. The default charset is UTF-8."""
    media_type, _, rest = content_type.partition(";")
    pairs = (part.partition("=") for part in rest.split(";") if part.strip())
    parameters = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    return media_type.strip().lower(), parameters.get("charset", "utf-8").lower()


def too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is longer than the maximum of {max_bytes // 1024:,} KiB.")
