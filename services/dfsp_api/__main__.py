"""Starts dfsp-api in the role that ``QUOTES_ROLE`` names, or runs the command ``distribute``."""

import os
import sys

from chassis.run import run


def main() -> int:
    """Each role imports its own modules only: the payer needs no database driver."""
    if sys.argv[1:2] == ["distribute"]:
        from dfsp_api import distribute

        return distribute.main(sys.argv[2:])
    match os.environ.get("QUOTES_ROLE"):
        case "payer":
            from dfsp_api import payer

            return run(payer.PayerSettings, payer.create_app)
        case "payee":
            from dfsp_api import payee

            return run(payee.PayeeSettings, payee.create_app)
    print("error: QUOTES_ROLE must be payer or payee", file=sys.stderr)  # noqa: T201
    return 2


sys.exit(main())
