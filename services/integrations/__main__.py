"""The service; ``check <webhook-url>`` is the conformance kit for those who receive."""

import sys

from chassis.run import run


def main() -> int:
    """The kit loads its own modules alone: whoever checks a webhook needs no database."""
    if sys.argv[1:2] == ["check"]:
        from integrations.conformance import command

        return command.main(sys.argv[2:])
    from integrations.app import IntegrationsSettings, create_app

    return run(IntegrationsSettings, create_app)


sys.exit(main())
