"""Creates the files that `compose.yaml` needs: secrets and the initial directory. It keeps existing files."""

import json
import secrets
from pathlib import Path

from network.samples import (
    ACCOUNTS,
    CALLERS,
    CONSOLE,
    CONSOLE_USERS,
    IDENTIFIER_TYPES,
    INTEGRATION_CALLERS,
    PAYEES,
    RECEIVER_CALLERS,
    encryption_key,
    ensure_audit_key,
    ensure_user,
    ensure_users,
)

# containers read these files as a user that does not own them, so the folder's mode protects them
_FOLDER_MODE, _FILE_MODE = 0o700, 0o444
DFSPS = ("dfsp1", "dfsp2")
DATABASES = (*DFSPS, "integrations", "receiver", "console")
USERS = {"users": CALLERS, "integrations-users": INTEGRATION_CALLERS, "receiver-users": RECEIVER_CALLERS}
# the other sample payees are at the second DFSP, so that both DFSPs send and receive
_PAYEE_AT_DFSP1 = ("eur", "30754017")


def prepare(folder: Path) -> None:
    """Write the files that are missing. Keep existing files, because a database keeps its first password."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_FOLDER_MODE)
    password = _ensure_file(folder / "console-password", secrets.token_urlsafe(24))
    for file, callers in USERS.items():
        ensure_users(folder / file, {**callers, CONSOLE: password})
        ensure_user(folder / file, CONSOLE, password)
        (folder / file).chmod(_FILE_MODE)
    ensure_users(folder / "console-users", CONSOLE_USERS)
    (folder / "console-users").chmod(_FILE_MODE)
    for name in DATABASES:
        password = _ensure_file(folder / f"{name}-database-password", secrets.token_urlsafe(24))
        _ensure_file(
            folder / f"{name}-database-url", f"postgresql://quotes:{password}@{name}-postgres/quotes"
        )
    for name in DFSPS:
        ensure_audit_key(folder / f"{name}-audit-key", f"{name}.localhost")
        (folder / f"{name}-audit-key").chmod(_FILE_MODE)
    _ensure_file(folder / "encryption-keys", encryption_key())
    _ensure_file(folder / "accounts.toml", ACCOUNTS)
    for file, scheme in {"directory.json": "http", "directory-tls.json": "https"}.items():
        _ensure_file(folder / file, json.dumps(_directory(scheme), indent=2, ensure_ascii=False))


def _ensure_file(file: Path, content: str) -> str:
    """Write a file if it does not exist. Returns the content that the file has now."""
    if not file.exists():
        file.write_text(content, encoding="utf-8")
        file.chmod(_FILE_MODE)
    return file.read_text(encoding="utf-8")


def _directory(scheme: str) -> dict[str, object]:
    dfsps = {payee: "dfsp1" if payee == _PAYEE_AT_DFSP1 else "dfsp2" for payee in PAYEES}
    return {
        "types": IDENTIFIER_TYPES,
        "resources": [
            {
                "identifierType": kind,
                "identifier": identifier,
                "dfsp": dfsp,
                "spspReceiver": f"{scheme}://{dfsp}-spsp-server",
                "primary": True,
            }
            for (kind, identifier), dfsp in dfsps.items()
        ],
        "dfsps": {},
    }
