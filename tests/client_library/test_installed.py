"""The distribution, installed in a new virtual environment, as a user installs it."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from support.quote_client import PATIENCE_SECONDS

pytestmark = pytest.mark.install

CLIENT = Path(__file__).parents[2] / "clients" / "python"
EXAMPLE = CLIENT / "examples" / "reserve_and_pay.py"
URL = "http://127.0.0.1:8010"
LIST = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"


async def run(*command: str | Path, folder: Path) -> str:
    """Run a command that must succeed, without this environment's path. Return its output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE_SECONDS * 10):
        output, _ = await process.communicate()

    assert 0 == process.returncode, output.decode()
    return output.decode()


@pytest.fixture(scope="module")
async def python(tmp_path_factory) -> Path:
    """The Python of a virtual environment into which only the client was installed."""
    folder = tmp_path_factory.mktemp("fresh")
    await run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    await run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT, folder=folder)
    return python


async def test_the_example_reserves_shows_the_fee_and_pays(chain, python, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(EXAMPLE.read_text().replace(URL, chain.url))
    output = await run(python, path, folder=tmp_path)

    assert re.search(r"Send 13\.75 USD, the fee is 1\.25 USD\. The quote expires at 20", output)
    assert "EXECUTED: 12.50 USD arrive." in output


async def test_it_brings_aiohttp_and_nothing_else_of_its_own(python, tmp_path):
    installed = (await run(python, "-c", LIST, folder=tmp_path)).split()
    required = await run(
        python,
        "-c",
        "import importlib.metadata as m; print(*m.requires('dfsp-quotes'), sep='\\n')",
        folder=tmp_path,
    )

    assert {"dfsp-quotes", "aiohttp"} <= set(installed)
    assert {"pytest", "marshmallow", "dfsp-quoting"}.isdisjoint(installed)
    assert ["aiohttp>=3.14"] == [line for line in required.splitlines() if "extra ==" not in line]


async def test_it_is_typed_and_has_its_license_and_no_tests(python, tmp_path):
    listed = await run(
        python,
        "-c",
        "import importlib.metadata as m; print(*m.files('dfsp-quotes'), sep='\\n')",
        folder=tmp_path,
    )

    assert "dfsp_quotes/py.typed" in listed
    assert "licenses/LICENSE" in listed
    assert {"dfsp_quotes"} == {
        line.partition("/")[0] for line in listed.splitlines() if ".dist-info" not in line
    } - {"..", "bin"}
