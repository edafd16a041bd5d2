"""Find the statements of the integration guide, and the statements that tests quote in their docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
GUIDE: Final = TESTS.parent / "docs" / "integration-guide.md"
CITATION: Final = "Guide: "

_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_COMMENT: Final = re.compile(r"(?<!:)//(.*)|/\*(.*?)\*/")
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"*])")


def plain(text: str) -> str:
    """Return the text without Markdown."""
    return " ".join(re.sub(r"[*`\\]", "", _LINK.sub(r"\1", text)).split())


def statements(guide: str) -> list[str]:
    """Return the statements of the guide: every sentence, table row and list item, and comments in the examples."""
    comments = [one or other for fence in _FENCE.findall(guide) for one, other in _COMMENT.findall(fence)]
    found = [each for line in _FENCE.sub("", guide).splitlines() for each in _of_line(line)] + comments
    return list(dict.fromkeys(said for each in found if (said := plain(each))))


def _of_line(line: str) -> Iterator[str]:
    if line.startswith("|"):
        if set(line) - set("| -"):
            yield " | ".join(cell.strip() for cell in line.strip().strip("|").split("|"))
    elif not line.startswith(("#", "- [")):
        yield from _SENTENCE.split(re.sub(r"^\d+\. ", "", line))


def citations() -> set[str]:
    """Return the statements that docstrings of tests quote after "Guide: ". `...` separates two of them."""
    found: set[str] = set()
    for file in sorted(TESTS.glob("*/test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for said in (ast.get_docstring(node) or "").split(CITATION)[1:]:
                    found |= {
                        part.rstrip(".")
                        for each in said.partition("\n\n")[0].split("...")
                        if (part := plain(each))
                    }
    return found
