"""The report as one HTML page: without scripts, and without a request to any host."""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Final

from dfsp_quotes.conformance.options import Part
from dfsp_quotes.conformance.result import Exchange, Outcome, Report, Result
from dfsp_quotes.conformance.text import TITLES, VERDICTS, by_section, counts, printable

STYLE: Final = files("dfsp_quotes.conformance").joinpath("page.css").read_text(encoding="utf-8")
_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
"""The page's Content-Security-Policy: nothing but its own style sheet."""


def html(report: Report) -> str:
    """Return the page. Checks that failed are open, the others closed."""
    verdict = Outcome.FAILED if report.failed else Outcome.PASSED
    title = f"Conformance of {report.url}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_escape(POLICY)}">',
            f"<title>{_escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            "<h1>Quote API conformance</h1>",
            f"<p>{_escape(report.url)} as <strong>{_escape(report.role)}</strong></p>",
            f'<p class="soft">{report.began:%Y-%m-%d %H:%M:%S} UTC</p>',
            f'<p class="verdict {verdict}">{_escape(VERDICTS[report.exit_code])} {_escape(counts(report))}.</p>',
            *_failed(report),
            "</header>",
            "<main>",
            *_sections(report),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _failed(report: Report) -> Iterator[str]:
    """Return links to the checks that failed."""
    if report.failed:
        links = " ".join(f'<a href="#{_escape(each)}">{_escape(each)}</a>' for each in sorted(report.failed))
        yield f'<nav aria-label="Checks that failed">{links}</nav>'


def _sections(report: Report) -> Iterator[str]:
    shown: Part | None = None
    for (part, section), results in by_section(report).items():
        if part is not shown:
            yield f"<h2>{_escape(TITLES[part])}</h2>"
            yield f'<p class="soft">{_escape(counts(report, part))}</p>'
            shown = part
        yield f"<h3>{_escape(section)}</h3>"
        for each in results:
            yield from _check(each)


def _check(result: Result) -> Iterator[str]:
    is_open = " open" if result.outcome is Outcome.FAILED else ""
    yield f'<details id="{_escape(result.id)}" class="{result.outcome}"{is_open}>'
    yield f'<summary><span class="badge">{result.outcome}</span> <code>{_escape(result.id)}</code></summary>'
    yield '<div class="body">'
    if result.message:
        yield f'<p class="message">{_escape(result.message)}</p>'
    yield f"<dl><dt>Right</dt><dd>{_escape(result.right)}</dd></dl>"
    for each in result.exchanges:
        yield from _exchange(each)
    if result.more_exchanges:
        yield f'<p class="soft">and {result.more_exchanges} more requests</p>'
    yield "</div></details>"


def _exchange(exchange: Exchange) -> Iterator[str]:
    yield '<div class="exchange">'
    yield f'<p class="soft">{_escape(exchange.way)}</p>'
    yield f"<pre>{_escape(exchange.request)}</pre>"
    yield f"<pre>{_escape(exchange.response)}</pre>"
    yield "</div>"


def _escape(text: str) -> str:
    return escape(printable(text))
