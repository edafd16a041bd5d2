"""The console's OpenAPI document: its pages are not in it."""

from typing import Any, Final

from chassis.openapi import Document

_ABOUT: Final = "Pages for the people who operate the services. This API is for the services themselves."


def openapi(title: str) -> dict[str, Any]:
    return Document(title, _ABOUT, {}).to_dict()
