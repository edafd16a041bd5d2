"""Receivers as the command line writes them."""

from dfsp_quotes.cli.failures import BadInputError


def receiver(text: str) -> tuple[str, str]:
    """Return identifierType and identifier of `eur:30754016`. Raises BadInputError."""
    identifier_type, colon, identifier = text.partition(":")
    if not (identifier_type and colon and identifier):
        raise BadInputError("The receiver must be TYPE:IDENTIFIER, such as eur:30754016.")
    return identifier_type, identifier
