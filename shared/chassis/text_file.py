"""Files that people edit: text in UTF-8, with or without a byte-order mark, and changes."""

from pathlib import Path

FileState = tuple[int, int, int] | None


class TextFileError(ValueError):
    """The file cannot be read; the message names the file, and the line that is not UTF-8."""


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
    """Return a value that differs after each change of a file; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
