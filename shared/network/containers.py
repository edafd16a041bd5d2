"""What `compose.yaml` needs beside it: secrets and the directory's first content, made where there are none."""

import json
import secrets
from pathlib import Path

from network.samples import (
    ACCOUNTS,
    CALLERS,
    INTEGRATION_CALLERS,
    PEOPLE,
    RECEIVER_CALLERS,
    TYPES,
    encryption_key,
    ensure_users,
)

# containers read these files as a user of their own, which owns nothing here: the folder is what keeps others out
_FOLDER_MODE, _FILE_MODE = 0o700, 0o444
DFSPS = ("dfsp1", "dfsp2")
DATABASES = (*DFSPS, "integrations", "receiver")
USERS = {"users": CALLERS, "integrations-users": INTEGRATION_CALLERS, "receiver-users": RECEIVER_CALLERS}
# most of the sample people are at the second DFSP, one is at the first, so that both send and receive
_AT_FIRST = ("eur", "30754017")


def prepare(folder: Path) -> None:
    """Make what is missing; nothing that is there is changed, for a database keeps its first password."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_FOLDER_MODE)
    for file, callers in USERS.items():
        ensure_users(folder / file, callers)
        (folder / file).chmod(_FILE_MODE)
    for name in DATABASES:
        password = _once(folder / f"{name}-database-password", secrets.token_urlsafe(24))
        _once(folder / f"{name}-database-url", f"postgresql://quotes:{password}@{name}-postgres/quotes")
    _once(folder / "encryption-keys", encryption_key())
    _once(folder / "accounts.toml", ACCOUNTS)
    for file, scheme in {"directory.json": "http", "directory-tls.json": "https"}.items():
        _once(folder / file, json.dumps(_directory(scheme), indent=2, ensure_ascii=False))


def _once(file: Path, content: str) -> str:
    """Write a file where there is none; return what it holds."""
    if not file.exists():
        file.write_text(content, encoding="utf-8")
        file.chmod(_FILE_MODE)
    return file.read_text(encoding="utf-8")


def _directory(scheme: str) -> dict[str, object]:
    people = [(person, "dfsp1" if person == _AT_FIRST else "dfsp2") for person in PEOPLE]
    return {
        "types": TYPES,
        "resources": [
            {
                "identifierType": kind,
                "identifier": identifier,
                "dfsp": dfsp,
                "spspReceiver": f"{scheme}://{dfsp}-spsp-server",
                "primary": True,
            }
            for (kind, identifier), dfsp in people
        ],
        "dfsps": {},
    }
