"""The report as text for a terminal."""

from collections.abc import Iterator
from typing import Final

from dfsp_quotes.conformance.options import Part
from dfsp_quotes.conformance.result import EXIT_OK, EXIT_PROMISES, EXIT_SOURCE, Outcome, Report, Result

WORDS: Final = {Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "skip"}
TITLES: Final = {Part.SOURCE: "The Quote API", Part.PROMISES: "The stronger promises of wire.md"}
VERDICTS: Final = {
    EXIT_OK: "No check failed.",
    EXIT_SOURCE: "Checks of the Quote API failed.",
    EXIT_PROMISES: "The checks of the Quote API passed. Stronger promises are not kept.",
}
MAX_SHOWN: Final = 4
"""The number of exchanges of a failed check that the text shows; the other reports show all that are kept."""


def by_section(report: Report) -> dict[tuple[Part, str], list[Result]]:
    """Return the results by part and section, the source first, in the order in which they came."""
    found: dict[tuple[Part, str], list[Result]] = {}
    for part in Part:
        for each in report.results:
            if each.part is part:
                found.setdefault((part, each.section), []).append(each)
    return found


def counts(report: Report, part: Part | None = None) -> str:
    passed, failed, skipped = (report.count(each, part) for each in Outcome)
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def text(report: Report) -> str:
    """Return the whole report. A failed check has its requests and responses below it."""
    lines = [f"{report.url} as {report.role}"]
    shown: Part | None = None
    for (part, section), results in by_section(report).items():
        if part is not shown:
            lines += ["", f"{TITLES[part]}: {counts(report, part)}"]
            shown = part
        lines += ["", f"  {section}"]
        for each in results:
            lines += _lines(each)
    return "\n".join([*lines, "", VERDICTS[report.exit_code], counts(report), ""])


def _lines(result: Result) -> Iterator[str]:
    yield f"    {WORDS[result.outcome]:<5} {result.id}"
    if result.message:
        yield f"          {_one_line(result.message)}"
    if result.outcome is not Outcome.FAILED:
        return
    yield f"          Right: {result.right}"
    # the last exchanges are those that failed
    for exchange in result.exchanges[-MAX_SHOWN:]:
        yield f"          {exchange.way}"
        yield from (f"            > {line}" for line in _clean(exchange.request))
        yield from (f"            < {line}" for line in _clean(exchange.response))


def _clean(content: str) -> list[str]:
    return printable(content).split("\n")


def _one_line(content: str) -> str:
    return printable(content).replace("\n", " ")


def printable(content: str) -> str:
    """Replace all characters that a terminal or a browser acts on, or that no encoding has, but not line ends."""
    return "".join(each if each.isprintable() or each == "\n" else "�" for each in content)
