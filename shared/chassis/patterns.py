"""Patterns in the syntax of ECMAScript, as JSON Schema wants them, of checks that are written in Python; and of uuids."""

import re
from typing import Final

PRINTABLE: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""The pattern of `chassis.schemas.Text`; JSON in UTF-8 has no lone surrogates."""

# re.IGNORECASE takes twice as long
UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
is_uuid: Final = UUID.match

_WHITE: Final = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_IN_URLS: Final = rf'\u0000-\u001f\u007f-\u009f{_WHITE}<>"\\^`{{|}}'
# compatibility normalisation turns these into separators of a URL
_NOT_IN_HOSTS: Final = r"\u2047-\u2049\u2100\u2101\u2105\u2106\u2a74\ufe13\ufe16\ufe55\ufe56\ufe5f\ufe6b\uff03\uff0f\uff1a\uff1f\uff20"
_NAME: Final = rf"[^{_NOT_IN_URLS}{_NOT_IN_HOSTS}/?#@:\[\]]+"
_PORT: Final = "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_SCHEME: Final = "^[Hh][Tt][Tt][Pp][Ss]?://"

_H: Final = "[0-9A-Fa-f]{1,4}"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_BEFORE_IPV4: Final = "|".join(f"({_H}:){{{before}}}:({_H}:){{0,{5 - before}}}" for before in range(1, 6))
_IPV6: Final = "|".join(
    [
        f"({_H}:){{7}}{_H}",
        f"({_H}:){{1,7}}:",
        *(f"({_H}:){{1,{7 - after}}}(:{_H}){{{after}}}" for after in range(1, 7)),
        f":(:{_H}){{1,7}}",
        "::",
        f"(({_H}:){{6}}|::({_H}:){{0,5}}|{_BEFORE_IPV4})" + rf"{_BYTE}(\.{_BYTE}){{3}}",
    ]
)
_HOST: Final = rf"({_NAME}|\[({_IPV6})\])"
HTTP_URL: Final = rf"{_SCHEME}{_HOST}(:({_PORT})?)?([/?#][^{_NOT_IN_URLS}]*)?$"
"""An absolute http or https URL without user and password."""
IMAGE_URL: Final = (
    rf"{_SCHEME}([^{_NOT_IN_URLS}/?#]*@)?{_HOST}(:[^{_NOT_IN_URLS}/?#@]*)?([/?#][^{_NOT_IN_URLS}]*)?$"
)
"""An absolute http or https URL that a browser may load."""
BASE_URL: Final = (
    rf"{_SCHEME}([A-Za-z0-9._~!$&'()*+,;=%-]+|\[({_IPV6})\])(:(0+|{_PORT})?)?"
    r"(/[A-Za-z0-9._~:/\[\]@!$&'()*+,;=%-]*)?$"
)
"""The URLs of `chassis.settings.base_url`."""


def above_zero(max_fraction_digits: int) -> str:
    """Return an expression for the digits after ``0.`` of a number above zero."""
    return "|".join(
        f"{'0' * zeros}[1-9]" + (f"[0-9]{{0,{left}}}" if (left := max_fraction_digits - zeros - 1) else "")
        for zeros in range(max_fraction_digits)
    )


def pattern_of(expression: re.Pattern[str]) -> str:
    r"""Return a Python expression, which ends in ``\Z``, as an anchored ECMAScript pattern."""
    return f"^{expression.pattern.removesuffix(chr(92) + 'Z')}$"
