"""Creates the sample users, the sample directory and other sample files. It keeps existing files."""

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from network import files
from network.topology import HOST

CALLERS = {"test": "123", "other": "456", "admin": "admin"}
INTEGRATION_CALLERS = {"user@example.com": "sample", "engine": "sample"}
RECEIVER_CALLERS = {"receiver": "sample"}
CONSOLE_USERS = {"operator": "sample", "viewer": "sample"}
CONSOLE = "console"
"""The user with whom the console calls the services."""
ACCOUNTS = """\
[[account]]
id = "sample"
token = "sample"
owner = "receiver"
funds = "10000.00"
"""
IDENTIFIER_TYPES = {"eur": "End User Registry number", "tel": "Telephone number (E.164)"}
PAYEES = (("eur", "30754016"), ("eur", "30754017"), ("tel", "+35988123456"))
"""Identifier type and identifier of each sample payee."""
_COMMAND_SECONDS = 60


class SampleError(RuntimeError):
    """A sample file cannot be written or updated. The message says why."""


def ensure_users(file: Path, callers: Mapping[str, str] = CALLERS) -> None:
    """Write a users file if it does not exist. Only its owner can read it."""
    if file.exists():
        return
    # under another name first: services must never read an incomplete file
    with tempfile.TemporaryDirectory(prefix=f"{file.name}.new-", dir=file.parent) as folder:
        new = Path(folder) / file.name
        for name, password in callers.items():
            _add_user(new, name, password)
        new.chmod(0o600)
        new.replace(file)


def ensure_user(file: Path, name: str, password: str) -> None:
    """Add a user to a users file if the file has no user of this name."""
    if not any(line.startswith(f"{name}:") for line in file.read_text(encoding="utf-8").splitlines()):
        _add_user(file, name, password)


def console_password(file: Path) -> str:
    """Return the password with which the console calls the services; the first call writes a random one to `file`."""
    ensure_secret(file, secrets.token_urlsafe(24))
    return file.read_text(encoding="utf-8").strip()


def ensure_secret(file: Path, content: str) -> None:
    """Write a file if it does not exist. Only its owner can read it."""
    if not file.exists():
        files.write_atomically(file, content.encode(), 0o600)


def ensure_audit_key(file: Path, name: str) -> None:
    """Write a file with the key of an audit log if it does not exist. `name` is the name of the log."""
    if not file.exists():
        _run(["dfsp_api", "audit-key", str(file), "--name", name], f"cannot write {file}")


def encryption_key() -> str:
    """Return a new Fernet key, which `integrations` uses for encryption."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def ensure_directory(file: Path, spsp_server: str) -> None:
    """Write a directory file if there is none. Else set the sample payees' port to the port of `spsp_server`."""
    if not file.exists():
        _write_directory(file, _sample_directory(spsp_server))
        return
    try:
        content = json.loads(file.read_text())
        is_changed = _update_ports(content, spsp_server)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SampleError(
            f"{file} is not a directory file ({error!r}): correct it, or delete it to get a new sample directory"
        ) from error
    if is_changed:
        _write_directory(file, content)


def _add_user(file: Path, name: str, password: str) -> None:
    command = ["chassis.users", "add", name, "--file", str(file)]
    _run(command, f"cannot add the user {name} to {file}", f"{password}\n")


def _run(command: Sequence[str], failure: str, content: str = "") -> None:
    """Run a module of the project; `content` is its standard input. Raises SampleError that begins with `failure`."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=content,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
        umask=0o077,
    )
    if done.returncode:
        raise SampleError(f"{failure}:\n{done.stdout}{done.stderr}".rstrip())


def _sample_directory(spsp_server: str) -> dict[str, Any]:
    resources = [
        {
            "identifierType": kind,
            "identifier": identifier,
            "dfsp": "dfsp2",
            "spspReceiver": spsp_server,
            "primary": True,
        }
        for kind, identifier in PAYEES
    ]
    return {"types": IDENTIFIER_TYPES, "resources": resources, "dfsps": {}}


def _update_ports(content: dict[str, Any], spsp_server: str) -> bool:
    """Set the port in the entries of sample payees that are on this machine. Returns whether anything changed."""
    is_changed = False
    for entry in content["resources"]:
        url = urlsplit(entry.get("spspReceiver") or "")
        is_sample = (entry.get("identifierType"), entry.get("identifier")) in PAYEES and url.hostname == HOST
        if is_sample and url.netloc != (netloc := urlsplit(spsp_server).netloc):
            entry["spspReceiver"] = url._replace(netloc=netloc).geturl()
            is_changed = True
    return is_changed


def _write_directory(file: Path, content: dict[str, Any]) -> None:
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.write_atomically(file, text.encode(), mode)
