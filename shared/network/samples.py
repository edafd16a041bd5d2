"""The sample callers and the sample directory: written where there are none yet."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from network import files
from network.plan import HOST

CALLERS = {"test": "123", "other": "456", "admin": "admin"}
INTEGRATION_CALLERS = {"user@example.com": "sample", "engine": "sample"}
RECEIVER_CALLERS = {"receiver": "sample"}
ACCOUNTS = """\
[[account]]
id = "sample"
token = "sample"
owner = "receiver"
funds = "10000.00"
"""
PEOPLE = (("eur", "30754016"), ("eur", "30754017"), ("tel", "+35988123456"))
TYPES = {"eur": "End User Registry number", "tel": "Telephone number (E.164)"}
_USERS_SECONDS = 60


class SampleError(RuntimeError):
    """The sample data cannot be written or brought up to date, and why."""


def ensure_users(file: Path, callers: Mapping[str, str] = CALLERS) -> None:
    """Write a users file, readable by its owner alone, where there is none."""
    if file.exists():
        return
    # under another name first: half a file must never be taken for the file
    with tempfile.TemporaryDirectory(prefix=f"{file.name}.new-", dir=file.parent) as folder:
        new = Path(folder) / file.name
        for name, password in callers.items():
            _add_user(new, name, password)
        new.chmod(0o600)
        new.replace(file)


def ensure_secret(file: Path, content: str) -> None:
    """Write a file, readable by its owner alone, where there is none."""
    if not file.exists():
        files.replace(file, content.encode(), 0o600)


def encryption_key() -> str:
    """A new key of the kind that `integrations` encrypts with."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def ensure_directory(file: Path, receiver: str) -> None:
    """Write a directory where there is none; else bring our sample people to the port of `receiver`."""
    if not file.exists():
        _replace(file, _sample(receiver))
        return
    try:
        content = json.loads(file.read_text())
        changed = _move(content, receiver)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SampleError(f"{file} is no directory of ours: {error!r}") from error
    if changed:
        _replace(file, content)


def _add_user(file: Path, name: str, password: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chassis.users", "add", name, "--file", str(file)],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=_USERS_SECONDS,
        check=False,
        umask=0o077,
    )
    if done.returncode:
        raise SampleError(f"cannot add {name} to {file}:\n{done.stdout}{done.stderr}".rstrip())


def _sample(receiver: str) -> dict[str, Any]:
    people = [
        {
            "identifierType": kind,
            "identifier": identifier,
            "dfsp": "dfsp2",
            "spspReceiver": receiver,
            "primary": True,
        }
        for kind, identifier in PEOPLE
    ]
    return {"types": TYPES, "resources": people, "dfsps": {}}


def _move(content: dict[str, Any], receiver: str) -> bool:
    moved = False
    for entry in content["resources"]:
        url = urlsplit(entry.get("spspReceiver") or "")
        ours = (entry.get("identifierType"), entry.get("identifier")) in PEOPLE and url.hostname == HOST
        if ours and url.netloc != (netloc := urlsplit(receiver).netloc):
            entry["spspReceiver"] = url._replace(netloc=netloc).geturl()
            moved = True
    return moved


def _replace(file: Path, content: dict[str, Any]) -> None:
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f"{file.name}.new-", delete=False) as new:
        json.dump(content, new, indent=2, ensure_ascii=False)
        new.write("\n")
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).chmod(mode)
    Path(new.name).replace(file)
