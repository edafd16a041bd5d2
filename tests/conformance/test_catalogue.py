"""The list of checks, and the document about it."""

import re
from pathlib import Path

import pytest

from dfsp_quotes.conformance import Part, Role, command
from dfsp_quotes.conformance.checks import CATALOGUE
from dfsp_quotes.conformance.result import EXIT_NOT_RUN, EXIT_OK, EXIT_PROMISES, EXIT_SOURCE, EXIT_USAGE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()


@pytest.mark.parametrize("role", Role)
def test_each_id_exists_once_for_a_role_and_each_need_comes_before(role):
    seen = []
    for check in CATALOGUE:
        if role in check.roles:
            assert check.id not in seen
            assert {*check.needs} <= {*seen}, check.id
            seen.append(check.id)


def test_the_checks_of_the_source_come_first_and_need_no_promise():
    parts = [check.part for check in CATALOGUE]

    assert [*Part] == list(dict.fromkeys(parts))
    assert sorted(parts, key=[*Part].index) == parts


def test_each_check_says_what_is_right_and_where_that_is_written():
    for check in CATALOGUE:
        assert re.fullmatch(r"\S.*\.", check.right), check.id
        assert check.section.startswith("§" if check.part is Part.SOURCE else "wire.md §"), check.id


def test_the_document_has_each_check_with_its_section_and_what_is_right():
    rows = re.findall(r"^\| (§[^|]+|wire\.md[^|]+) \| `([\w.-]+)` \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)

    assert sorted(
        (each.section.format(receives="n", sends="n"), each.id, each.right) for each in CATALOGUE
    ) == sorted(rows)


def test_the_document_and_the_help_have_each_exit_code():
    codes = {EXIT_OK, EXIT_SOURCE, EXIT_USAGE, EXIT_PROMISES, EXIT_NOT_RUN}

    assert codes == {int(code) for code in re.findall(r"^\| (\d) \| ", DOCUMENT, re.MULTILINE)}
    assert codes == {int(code) for code in re.findall(r"^  (\d)  ", command.EXIT_CODES, re.MULTILINE)}


def test_the_document_has_each_role_and_only_options_that_exist():
    assert [*Role] == re.findall(
        r"^\| `([\w-]+)` \| (?:this|all|the payee's|the payer's)", DOCUMENT, re.MULTILINE
    )
    assert {*re.findall(r"--[a-z][a-z-]+", DOCUMENT)} <= {
        *re.findall(r"--[a-z][a-z-]+", command.parser().format_help())
    }
