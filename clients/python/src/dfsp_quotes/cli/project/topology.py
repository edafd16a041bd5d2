"""The services of `make run`."""

from pathlib import Path

from dfsp_quotes.cli.failures import BadInputError
from network import topology


def services(first_port: int) -> dict[str, str]:
    """Return the base URLs of the services of `make run PORT=...` by name. Raises BadInputError."""
    try:
        specs = topology.services(first_port, data=Path(), database_url="")
    except topology.PortError as error:
        raise BadInputError(f"{error}.".replace("PORT", "--port", 1)) from None
    return {spec.name: spec.origin for spec in specs}
