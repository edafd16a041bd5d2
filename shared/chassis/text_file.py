"""Reads text files that people edit, and detects changes. The files are in UTF-8, perhaps with a byte-order mark."""

from pathlib import Path

FileState = tuple[int, int, int] | None


class TextFileError(ValueError):
    """The file cannot be read. The message names the file; if a line is not UTF-8, also this line."""


def read_text(path: Path) -> str:
    """Return the file's text without its byte-order mark. Raises TextFileError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TextFileError(f"{path}, line {line}: is not UTF-8") from error


def state_of(path: Path) -> FileState:
    """Return a value that is different after each change of the file; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
