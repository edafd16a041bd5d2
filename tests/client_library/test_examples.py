"""The examples and the README of the client run, and mypy finds wrong arguments in a program that uses it."""

import ast
import asyncio
import os
import re
import sys
from pathlib import Path
from textwrap import indent

import pytest

import dfsp_quotes
from support.quote_client import PATIENCE_SECONDS

CLIENT = Path(__file__).parents[2] / "clients" / "python"
EXAMPLES = sorted((CLIENT / "examples").glob("*.py"))
URL = "http://127.0.0.1:8010"
EXPECTED = {
    "decide_by_error.py": "EXECUTED at 20",
    "reserve_and_pay.py": "EXECUTED: 12.50 USD arrive.",
}


async def run(*command: str, **environment: str) -> tuple[int, str]:
    """Run Python with the client on its path. Return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, "PYTHONPATH": str(CLIENT / "src"), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_SECONDS * 5):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def run_at(url: str, program: str, folder: Path) -> tuple[int, str]:
    """Run a program that calls the server of `make run` at another URL."""
    assert URL in program

    path = folder / "program.py"
    path.write_text(program.replace(URL, url))
    return await run(str(path))


def test_every_example_is_tested():
    programs = {path.name for path in EXAMPLES if not path.name.startswith("test_")}

    assert set(EXPECTED) == programs


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_an_example_prints_what_it_should(server, tmp_path, name):
    code, output = await run_at(server.url, (CLIENT / "examples" / name).read_text(), tmp_path)

    assert 0 == code, output
    assert EXPECTED[name] in output


async def test_the_example_of_a_test_passes(tmp_path):
    tests = CLIENT / "examples" / "test_your_program.py"
    code, output = await run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)
    )

    assert 0 == code, output
    assert "2 passed" in output


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def as_program(snippet: str) -> str:
    """Make a program of a snippet, with the imports that a reader adds."""
    body = indent(snippet, "    ")
    return (
        "import asyncio\nfrom decimal import Decimal\nfrom dfsp_quotes import *\nfrom dfsp_quotes.fake import *\n\n"
        f"async def main():\n{body}\n\nasyncio.run(main())\n"
    )


async def test_the_five_statements_of_the_readme_run(server, tmp_path):
    snippet = snippets()[0]
    code, output = await run_at(server.url, as_program(snippet), tmp_path)

    statements = [node for node in ast.walk(ast.parse(as_program(snippet))) if isinstance(node, ast.stmt)]
    around = [node for node in ast.walk(ast.parse(as_program("pass"))) if isinstance(node, ast.stmt)]
    assert 5 == len(statements) - len(around) + 1
    assert 0 == code, output
    assert "Send 13.75 USD until 20" in output
    assert "with a fee of 1.25 USD." in output
    assert "EXECUTED: 12.50 USD arrive." in output


async def test_the_test_of_the_readme_runs(tmp_path):
    path = tmp_path / "program.py"
    pays = (
        'quote = await client.quote_source_amount(amount=Decimal("100"), currency_code="USD", currency_symbol="$",'
        ' account="https://a.example/bob", identifier="1", identifier_type="eur", transfer_type="p2p")\n'
        "        assert quote.fee == Decimal(2)\n"
        "        await client.pay(quote)"
    )
    path.write_text(as_program(snippets()[1].replace("...", pays)))
    code, output = await run(str(path))

    assert 0 == code, output


WRONG = """\
from decimal import Decimal
from dfsp_quotes import QuoteClient

async def main() -> None:
    async with QuoteClient("http://127.0.0.1:8010", "test", "123") as client:
        quote = await client.quote_source_amount(
            amount=12.5,  # a float
            currency_code="USD",
            currency_symbol="$",
            account="https://a.example/bob",
            identifier=30754016,  # an int
            identifier_type="eur",
            transfer_type="p2p",
        )
        fee: Decimal = quote.fee
        wrong: float = quote.amount  # a Decimal
        quote.amount = Decimal(1)  # frozen
        await client.pay(quote.uuid)  # no quote
        (await client.look_up("x", identifier="1")).state  # a type is missing
        (await client.pay(quote)).state.nothing  # no such attribute
"""
RIGHT = re.sub(r".*  # (frozen|a Decimal|no quote|a type is missing|no such attribute)\n", "", WRONG)
RIGHT = RIGHT.replace("12.5,", 'Decimal("12.5"),').replace("30754016,", '"30754016",')


async def mypy(folder: Path, program: str) -> list[tuple[int, str]]:
    """Return line and code of each error that mypy --strict finds in a user's program."""
    (folder / "program.py").write_text(program)
    _, output = await run(
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--config-file=",
        f"--cache-dir={folder / 'cache'}",
        str(folder / "program.py"),
        MYPYPATH=str(CLIENT / "src"),
    )
    found = re.findall(r"program\.py:(\d+): error: .*\[([a-z-]+)\]", output)

    assert len(found) == output.count("error:"), output
    return [(int(line), code) for line, code in found]


async def test_mypy_finds_each_wrong_argument_of_a_program_and_nothing_in_a_right_one(tmp_path):
    lines = {text.partition("  # ")[2]: number for number, text in enumerate(WRONG.splitlines(), 1)}

    assert [] == await mypy(tmp_path, RIGHT)
    assert [
        (lines["a float"], "arg-type"),
        (lines["an int"], "arg-type"),
        (lines["a Decimal"], "assignment"),
        (lines["frozen"], "misc"),
        (lines["no quote"], "arg-type"),
        (lines["a type is missing"], "call-arg"),
        (lines["no such attribute"], "attr-defined"),
    ] == await mypy(tmp_path, WRONG)


def test_the_package_is_marked_as_typed():
    assert (Path(dfsp_quotes.__file__).parent / "py.typed").exists()
