"""A test CA and a certificate for each service of `compose.tls.yaml`: what `make certs` makes.

Keys lie beside their certificates, readable by the containers' user: certificates to try things with, no more.
"""

import datetime as dt
from pathlib import Path

from network.files import replace

# what serves, and under which names it is called; the second DFSP's services bear the first's as aliases
_ROLES = (
    "front",
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)
_PUBLISHED = ("localhost", "127.0.0.1")
DIRECTORY = "central-directory"
CALLER = "caller"
"""Who calls the published ports."""
AUTHORITY = "authority"
_KEY_MODE = 0o600
_SHARED_MODE = 0o444
_FOLDER_MODE = 0o755


def names() -> dict[str, tuple[str, ...]]:
    """Each service of the compose file, with the names that its certificate must hold."""
    found: dict[str, tuple[str, ...]] = {DIRECTORY: (DIRECTORY,), CALLER: (CALLER,)}
    for role in _ROLES:
        published = _PUBLISHED if role == "dfsp-api-payer" else ()
        found[role] = (role, f"dfsp1-{role}", *published)
        found[f"dfsp2-{role}"] = (role, f"dfsp2-{role}", *published)
    return found


def make(folder: Path, *, until: dt.datetime | None = None) -> None:
    """(Re)new every certificate, under the CA that is there or a new one.

    Running services take over what changes within a second.
    """
    # only who makes certificates needs it: it is not among what services run with
    import trustme

    authority = folder / AUTHORITY
    authority.mkdir(parents=True, exist_ok=True)
    key, certificate = authority / "key.pem", authority / "ca.pem"
    if key.exists() and certificate.exists():
        ca = trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    else:
        ca = trustme.CA(organization_name="DFSP quoting", organization_unit_name="test CA")
        replace(key, ca.private_key_pem.bytes(), _KEY_MODE)
        replace(certificate, ca.cert_pem.bytes(), _SHARED_MODE)
    for service, called in names().items():
        place = folder / service
        place.mkdir(exist_ok=True)
        place.chmod(_FOLDER_MODE)
        leaf = ca.issue_cert(*called, common_name=service, not_after=until)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        # a service may look between two of these: it keeps the old pair until the new one fits
        replace(place / "key.pem", leaf.private_key_pem.bytes(), _SHARED_MODE)
        replace(place / "certificate.pem", chain, _SHARED_MODE)
        replace(place / "ca.pem", ca.cert_pem.bytes(), _SHARED_MODE)
