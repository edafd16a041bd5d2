"""`make certs` calls this module. It creates a test CA, and a certificate for each service of `compose.tls.yaml`.

Each private key is in the same folder as its certificate, and the user of the containers can read it. Use these
certificates only for tests.
"""

import datetime as dt
from pathlib import Path

from network.files import write_atomically

_ROLES = (
    "load-balancer",
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)
_CALLED_BY_BROWSERS = ("integrations", "signal-receiver", "console")
_INTEGRATION_LOAD_BALANCERS = ("integrations-load-balancer", "receiver-load-balancer")
_PUBLISHED_NAMES = ("localhost", "127.0.0.1")
DIRECTORY = "central-directory"
CALLER = "caller"
"""Name of the client certificate with which callers use the published ports."""
AUTHORITY = "authority"
_KEY_MODE = 0o600
_SHARED_MODE = 0o444
_FOLDER_MODE = 0o755


def names() -> dict[str, tuple[str, ...]]:
    """Return, for each compose service, the host names that its certificate must contain.

    A DFSP's service has a short name such as `spsp-client` in the DFSP's own network, and a name such as
    `dfsp2-spsp-client` in other networks.
    """
    found: dict[str, tuple[str, ...]] = {
        name: (name,) for name in (DIRECTORY, CALLER, *_INTEGRATION_LOAD_BALANCERS)
    }
    found |= {name: (name, *_PUBLISHED_NAMES) for name in _CALLED_BY_BROWSERS}
    for role in _ROLES:
        published = _PUBLISHED_NAMES if role == "dfsp-api-payer" else ()
        found[role] = (role, f"dfsp1-{role}", *published)
        found[f"dfsp2-{role}"] = (role, f"dfsp2-{role}", *published)
    return found


def create(folder: Path, *, until: dt.datetime | None = None) -> None:
    """Create or renew every certificate. Keep the CA if it exists.

    Running services load the new files within a second.
    """
    # a development dependency: the image does not contain it
    import trustme

    authority = folder / AUTHORITY
    authority.mkdir(parents=True, exist_ok=True)
    key, certificate = authority / "key.pem", authority / "ca.pem"
    if key.exists() and certificate.exists():
        ca = trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    else:
        ca = trustme.CA(organization_name="DFSP quoting", organization_unit_name="test CA")
        write_atomically(key, ca.private_key_pem.bytes(), _KEY_MODE)
        write_atomically(certificate, ca.cert_pem.bytes(), _SHARED_MODE)
    for service, hosts in names().items():
        service_folder = folder / service
        service_folder.mkdir(exist_ok=True)
        service_folder.chmod(_FOLDER_MODE)
        leaf = ca.issue_cert(*hosts, common_name=service, not_after=until)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        # a service that reads between two of these writes keeps the old pair until key and certificate match
        write_atomically(service_folder / "key.pem", leaf.private_key_pem.bytes(), _SHARED_MODE)
        write_atomically(service_folder / "certificate.pem", chain, _SHARED_MODE)
        write_atomically(service_folder / "ca.pem", ca.cert_pem.bytes(), _SHARED_MODE)
