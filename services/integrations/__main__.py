"""Run the service, or with ``check <webhook-url>`` the conformance check for people who build webhooks."""

import sys

from chassis.run import run


def main() -> int:
    """Import only the modules of the command: the conformance check needs no database."""
    if sys.argv[1:2] == ["check"]:
        from integrations.conformance import command

        return command.main(sys.argv[2:])
    from integrations.app import create_app
    from integrations.settings import IntegrationsSettings

    return run(IntegrationsSettings, create_app)


sys.exit(main())
