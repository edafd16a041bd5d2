"""All checks, in the order in which they run."""

from typing import Final

from dfsp_quotes.conformance.check import Check
from dfsp_quotes.conformance.checks import (
    hop,
    hop_promises,
    payee,
    payee_messages,
    payee_promises,
    payee_terms,
    receiver,
)

CATALOGUE: Final[tuple[Check, ...]] = (
    *hop.CHECKS,
    *receiver.CHECKS,
    *payee.CHECKS,
    *hop_promises.CHECKS,
    *payee_promises.CHECKS,
    *payee_messages.CHECKS,
    *payee_terms.CHECKS,
)
"""Every check of the kit. The checks of the source come first."""
