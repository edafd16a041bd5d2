"""The report as JUnit XML, as CI systems read it."""

import re
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from dfsp_quotes.conformance.options import Part
from dfsp_quotes.conformance.result import Outcome, Report, Result

NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot contain."""


def junit(report: Report) -> bytes:
    """Return an XML document: one test suite for each part, one test case for each check."""
    suites = Element("testsuites", name="dfsp_quotes.conformance")
    for part in Part:
        results = [each for each in report.results if each.part is part]
        suite = SubElement(
            suites,
            "testsuite",
            name=f"{part} ({report.role})",
            tests=str(len(results)),
            failures=str(report.count(Outcome.FAILED, part)),
            errors="0",
            skipped=str(report.count(Outcome.SKIPPED, part)),
            time=f"{sum(each.seconds for each in results):.3f}",
            timestamp=report.began.strftime("%Y-%m-%dT%H:%M:%S"),
        )
        for each in results:
            _add(suite, each)
    indent(suites)
    text: str = tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def _add(suite: Element, result: Result) -> None:
    case = SubElement(
        suite,
        "testcase",
        classname=f"{result.part}.{result.section}".replace(" ", "_"),
        name=result.id,
        time=f"{result.seconds:.3f}",
    )
    if result.outcome is Outcome.SKIPPED:
        SubElement(case, "skipped", message=_clean(result.message))
    elif result.outcome is Outcome.FAILED:
        failure = SubElement(case, "failure", message=_clean(result.message), type="Fault")
        parts = [f"{result.section}\nRight: {result.right}"]
        parts += [f"{each.way}\n{each.request}\n\n{each.response}" for each in result.exchanges]
        failure.text = _clean("\n\n".join(parts))


def _clean(text: str) -> str:
    return NOT_XML.sub("�", text)
