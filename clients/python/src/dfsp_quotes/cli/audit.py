"""`quotes audit`: the payee's audit log: keys, exports, checkpoints and proofs."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from dfsp_quotes import AuditProof, QuoteClient
from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.failures import BadInputError, CommandError, project_packages
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, User, Uuid
from dfsp_quotes.cli.output import facts, printable, show

DATABASE_VARIABLE: Final = "QUOTES_DATABASE_URL"
DEFAULT_TIMEOUT_SECONDS: Final = 10.0

Keys = Annotated[
    list[str],
    typer.Option(
        "--key",
        metavar="KEY",
        help="A public key, or a file with keys. Repeat the option for each key that has signed the log.",
        show_default=False,
    ),
]
OptionalKeys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="KEY", help="Also verify, with this key or the keys in this file."),
]
PayeeUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="QUOTES_PAYEE_URL",
        metavar="URL",
        help="Base URL of the payee's dfsp-api; `payee_url` of the configuration.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="Time limit for each request, including repetitions."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write to this new file instead of stdout.", show_default=False
    ),
]

T = TypeVar("T")

_group = typer.Typer(
    no_args_is_help=True,
    help="Export and verify the payee's audit log, and read its checkpoints and proofs.",
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="audit")


@_group.command("key", epilog="Example: quotes audit key audit-key --new example.com/quotes")
def key(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file that QUOTES_AUDIT_KEY_FILE names.", show_default=False),
    ],
    new: Annotated[
        str | None,
        typer.Option("--new", metavar="NAME", help="Make the file, with a new key for the log of this name."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the public keys of a key file. With --new, make the file first."""
    with project_packages():
        # the client alone has no such packages
        from dfsp_quotes.cli.project import audit_log
    keys = audit_log.verifier_keys(file) if new is None else audit_log.create_key(file, new)
    show({"keys": keys}, Group(*map(Text, keys)), as_json=as_json)


@_group.command("export", epilog="Example: quotes audit export --out audit.jsonl")
def export(
    out: Out = None,
    database_url_file: Annotated[
        Path | None,
        typer.Option(
            "--database-url-file",
            metavar="FILE",
            help="File with the URL of the payee's database. Without it: QUOTES_DATABASE_URL or QUOTES_DATABASE_URL_FILE.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole audit log as JSON lines, and compare each event with the table of quotes."""
    if as_json and out is None:
        raise BadInputError("--json needs --out: without it, the export itself is on stdout.")
    url = _database_url(database_url_file)
    with project_packages():
        from dfsp_quotes.cli.project import audit_log
    rows = audit_log.export(url, out)
    if out is not None:
        view = Text.assemble(("exported", "green"), f" {rows:,} rows to {printable(str(out))}")
        show({"rows": rows, "file": str(out)}, view, as_json=as_json)


@_group.command("verify", epilog="Example: quotes audit verify audit.jsonl --key audit-keys")
def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A file that `export` has written.", show_default=False)
    ],
    keys: Keys,
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A checkpoint that was kept outside of the payee: the log must begin with it. Repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export without a network. Name each place that was changed; the exit code is then 1."""
    with project_packages():
        from dfsp_quotes.cli.project import audit_log
    verdict = audit_log.verify(file, keys, checkpoints or [])
    content = {
        "isGood": verdict.is_good,
        "leaves": verdict.leaves,
        "leavesWithoutContent": verdict.without_content,
        "checkpoints": verdict.checkpoints,
        "findings": [{"line": each.line, "text": each.text} for each in verdict.findings],
        "furtherFindings": verdict.more,
    }
    word = Text("good", "green") if verdict.is_good else Text("changed", "bold red")
    lines = [Text(printable(f"{file}, {each}")) for each in verdict.findings]
    if verdict.more:
        lines.append(Text(f"and {verdict.more:,} more"))
    summary = f": leaves: {verdict.leaves:,} ({verdict.without_content:,} without content), checkpoints: {verdict.checkpoints:,}"
    show(content, Group(*lines, Text.assemble(word, summary)), as_json=as_json)
    if not verdict.is_good:
        raise typer.Exit(1)


@_group.command("checkpoint", epilog="Example: quotes audit checkpoint --out checkpoint.txt --key audit-keys")
def checkpoint(
    out: Out = None,
    keys: OptionalKeys = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: PayeeUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the last checkpoint. Keep some outside of the payee: they show later whether its log was rewritten."""
    client = _client(config, url=url, user=user, password_file=password_file)
    note = _run(client, lambda opened: opened.audit_checkpoint(timeout=timeout))
    if keys:
        with project_packages():
            from dfsp_quotes.cli.project import audit_log
        audit_log.signed_size(note, keys)
    if out is not None:
        _write_new(out, note)
    elif as_json:
        show({"checkpoint": note}, Text(), as_json=True)
    else:
        sys.stdout.write("".join(each if each.isprintable() or each == "\n" else "?" for each in note))


@_group.command(
    "proof", epilog="Example: quotes audit proof 729bce92-cf6b-81d3-9085-437ed128fe45 --key audit-keys"
)
def proof(
    uuid: Uuid,
    keys: OptionalKeys = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: PayeeUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the events of a quote that are in the audit log; with --key, verify the proofs."""
    client = _client(config, url=url, user=user, password_file=password_file)
    found = _run(client, lambda opened: opened.audit_proof(uuid, timeout=timeout))
    if keys:
        with project_packages():
            from dfsp_quotes.cli.project import audit_log
        audit_log.verify_proof(found, keys)
    content = {"uuid": str(found.uuid), "isVerified": bool(keys), **_proof_content(found)}
    rows = [(each.event[:16], f"leaf {each.position}") for each in found.leaves]
    lines: list[RenderableType] = (
        [facts(rows)] if rows else [Text("No event is in the audit log yet.", "dim")]
    )
    if keys:
        lines.append(Text("verified", "green"))
    show(content, Group(*lines), as_json=as_json)


@_group.command("consistency", epilog="Example: quotes audit consistency checkpoint.txt --key audit-keys")
def consistency(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint that `checkpoint` has written.", show_default=False
        ),
    ],
    keys: Keys,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: PayeeUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify that the payee's present audit log begins with the log of an earlier checkpoint."""
    with project_packages():
        from dfsp_quotes.cli.project import audit_log
    first = audit_log.size_of(file, keys)
    client = _client(config, url=url, user=user, password_file=password_file)
    note = _run(client, lambda opened: opened.audit_checkpoint(timeout=timeout))
    second = audit_log.signed_size(note, keys)
    if second < first:
        raise CommandError(f"The log has {second} leaves now, fewer than the {first} of the checkpoint.")
    hashes = _run(client, lambda opened: opened.audit_consistency(first, second, timeout=timeout))
    audit_log.verify_consistency(file, note, hashes, keys)
    view = Text.assemble(
        ("consistent", "green"), f": the log of size {second} begins with the one of size {first}"
    )
    show({"isConsistent": True, "from": first, "to": second}, view, as_json=as_json)


def _proof_content(found: AuditProof) -> dict[str, object]:
    return {
        "checkpoint": found.checkpoint,
        "leaves": [
            {
                "event": each.event,
                "position": each.position,
                "content": each.content,
                "hash": each.hash.hex(),
                "proof": [one.hex() for one in each.proof],
            }
            for each in found.leaves
        ],
    }


def _client(
    config: Path | None, *, url: str | None, user: str | None, password_file: Path | None
) -> Callable[[], QuoteClient]:
    used = configuration.access(
        configuration.load(config), url=url, user=user, password_file=password_file, url_key="payee_url"
    )
    return lambda: QuoteClient(used.url, used.user, used.password)


def _run(client: Callable[[], QuoteClient], work: Callable[[QuoteClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with client() as opened:
            return await work(opened)

    try:
        return asyncio.run(run())
    except ValueError as error:
        raise BadInputError(f"{error}.".replace("base_url", "--url", 1)) from None


def _database_url(file: Path | None) -> str:
    named = os.environ.get(f"{DATABASE_VARIABLE}_FILE")
    if file is None and DATABASE_VARIABLE in os.environ:
        return os.environ[DATABASE_VARIABLE]
    if file is None and named is None:
        raise BadInputError(
            f"The database is missing: set --database-url-file, {DATABASE_VARIABLE} or {DATABASE_VARIABLE}_FILE."
        )
    return configuration.read_text(file or Path(named or "")).strip()


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}.") from None
