"""Checks pages in a browser with axe-core, which npm installs in the version of `support/axe/package-lock.json`."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from support.browser import Browser

HERE = Path(__file__).parent / "axe"
MAX_SECONDS = 300
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.flatMap(({id, help, nodes}) => nodes.map((node) => `${id}: ${help}: ${node.html}`))),
  (error) => done([`axe-core failed: ${error}`]),
);
"""


def install(folder: Path) -> str:
    """Return the script of axe-core. Skips the test, with the reason, if npm cannot install it."""
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=MAX_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        details = getattr(error, "stderr", None) or error
        pytest.skip(f"ACCESSIBILITY WAS NOT CHECKED: npm cannot install axe-core: {details}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


async def violations(browser: Browser, script: str) -> list[str]:
    """Return what axe-core finds on the present page, one line for each element."""
    await asyncio.to_thread(browser.driver.execute_script, script)
    found: list[str] = await asyncio.to_thread(browser.driver.execute_async_script, RUN)
    return found
