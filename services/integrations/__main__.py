"""Run the service; or, with ``check <webhook-url>``, test whether a webhook follows the integration guide."""

import sys
from typing import Final

from chassis import usage
from chassis.run import run

COMMANDS: Final = {
    "check": "checks a webhook against the integration guide; it has a --help of its own",
}


def main() -> int:
    """Run the service or the command ``check``; return the exit status.

    Imports only the modules that are needed, because ``check`` needs no database.
    """
    if sys.argv[1:2] == ["check"]:
        from integrations.conformance import command

        return command.main(sys.argv[2:])
    from integrations.app import create_app
    from integrations.settings import IntegrationsSettings

    if sys.argv[1:]:
        return usage.respond(sys.argv[1:], {"Settings": IntegrationsSettings}, commands=COMMANDS)
    return run(IntegrationsSettings, create_app)


sys.exit(main())
