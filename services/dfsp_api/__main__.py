"""``QUOTES_ROLE`` says which of the two roles of dfsp-api this process has."""

import os
import sys

from chassis.run import run
from dfsp_api import payee, payer

ROLES = {
    "payer": lambda: run(payer.PayerSettings, payer.create_app),
    "payee": lambda: run(payee.PayeeSettings, payee.create_app),
}

role = os.environ.get("QUOTES_ROLE", "")
if role not in ROLES:
    sys.exit("error: QUOTES_ROLE must be payer or payee")
sys.exit(ROLES[role]())
