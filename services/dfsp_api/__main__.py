"""Start dfsp-api in the role that ``QUOTES_ROLE`` names, or run one of its commands."""

import os
import sys
from typing import Final

from chassis import usage
from chassis.run import run

COMMANDS: Final = {
    "distribute": "spreads the payee's database over a Citus cluster; it has a --help of its own",
    "audit-key": "makes a key for the payee's audit log; it has a --help of its own",
}


def main() -> int:
    """Run the service or the command; return its exit status.

    Imports only the modules of the chosen role, because the payer role needs no database driver.
    """
    if sys.argv[1:2] == ["distribute"]:
        from dfsp_api import distribute

        return distribute.main(sys.argv[2:])
    if sys.argv[1:2] == ["audit-key"]:
        from dfsp_api.audit import key_file

        return key_file.main(sys.argv[2:])
    if sys.argv[1:]:
        from dfsp_api import payee, payer

        settings = {
            "Settings with QUOTES_ROLE=payer": payer.PayerSettings,
            "Settings with QUOTES_ROLE=payee": payee.PayeeSettings,
        }
        return usage.respond(sys.argv[1:], settings, commands=COMMANDS)
    match os.environ.get("QUOTES_ROLE"):
        case "payer":
            from dfsp_api import payer

            return run(payer.PayerSettings, payer.create_app)
        case "payee":
            from dfsp_api import payee

            return run(payee.PayeeSettings, payee.create_app)
    sys.stderr.write(
        "error: QUOTES_ROLE must be payer or payee; python -m dfsp_api --help lists all settings\n"
    )
    return 2


sys.exit(main())
