"""Schemathesis against a running service: requests made from its OpenAPI document, and every check of the responses."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 600
"""Ends a run that hangs; a run takes a few seconds."""
EXAMPLES: Final = 5
LONG_EXAMPLES: Final = 200


def explore(
    document: str, name: str, password: str, *, examples: int = EXAMPLES, url: str | None = None
) -> str:
    """Return the output of a run that found nothing. Raises AssertionError with its findings.

    `document` is a URL or a file; a file needs the `url` of the service.
    """
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", document),
            *(("--url", url) if url else ()),
            *("--auth", f"{name}:{password}"),
            *("--checks", "all", "--seed", "1", "--max-examples", str(examples)),
            *("--warnings", "off", "--no-color"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def number_of_cases(output: str) -> int:
    found = re.search(r"([0-9]+) generated", output)
    return int(found[1]) if found else 0
