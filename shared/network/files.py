"""Functions that replace a file as a whole, and that open a file so that only its owner can read it."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO, Literal

_PRIVATE_MODE = 0o600


def write_atomically(file: Path, content: bytes, mode: int) -> None:
    """Replace a file. A reader sees either the old content or the new content, never a mixture."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).chmod(mode)
    Path(new.name).replace(file)


def open_private(file: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file and make it readable by its owner only, even if its mode or the umask would allow more."""
    flags = os.O_APPEND if mode == "ab" else os.O_TRUNC
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, _PRIVATE_MODE)
    os.fchmod(descriptor, _PRIVATE_MODE)
    return os.fdopen(descriptor, mode)
