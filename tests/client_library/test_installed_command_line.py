"""The command line in fresh virtual environments: what a user gets who installs the client, with and without it."""

import asyncio
import sys
from pathlib import Path

import pytest

from support.command_line import PATIENCE_SECONDS, RESERVE, CommandLine
from support.messages import QUOTE

pytestmark = pytest.mark.install

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
SAMPLE_FEES = ROOT / "services" / "dfsp_api" / "sample_fees.toml"


async def succeed(*command: object) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, command))
    async with asyncio.timeout(PATIENCE_SECONDS * 5):
        assert 0 == await process.wait()


@pytest.fixture(scope="module")
async def quotes(tmp_path_factory) -> str:
    """The command of a virtual environment into which the client was installed, without the extra."""
    folder = tmp_path_factory.mktemp("fresh")
    await succeed(sys.executable, "-m", "venv", folder / "venv")
    await install(folder / "venv" / "bin" / "python", CLIENT)
    return str(folder / "venv" / "bin" / "quotes")


async def install(python: Path, package: object) -> None:
    await succeed(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)


async def test_without_the_extra_it_says_how_to_install_it_and_with_it_it_works(chain, quotes, tmp_path):
    environment = {"QUOTES_URL": chain.url, "QUOTES_USER": "test", "QUOTES_PASSWORD": "123"}
    command = CommandLine(tmp_path, environment, (quotes,))
    missing = await command.error(2, "--version")
    await install(Path(quotes).with_name("python"), f"{CLIENT}[cli]")
    quote = await command.json(*RESERVE, "--account", QUOTE["account"])
    checked = await command.error(2, "fees", "check", SAMPLE_FEES)

    assert "quotes needs its extra: python -m pip install 'dfsp-quotes[cli]'" == missing
    assert ("13.75", "12.50") == (quote["sourceAmount"], quote["destinationAmount"])
    assert checked.startswith("This command needs the packages of the quoting project: ")
