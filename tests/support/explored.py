"""Schemathesis against a running service: requests made from its OpenAPI document, and every check of the responses."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.request import urlopen

CONFIGURATION: Final = Path(__file__).parents[2] / "schemathesis.toml"
SECONDS: Final = 600
"""Ends a run that hangs; a run takes a few seconds."""
EXAMPLES: Final = 5
LONG_EXAMPLES: Final = 50
QUICK: Final = ("examples", "coverage", "stateful")
"""The phases of a short run: the document's examples, the boundaries of each field, and sequences of calls."""
ALL: Final = (*QUICK, "fuzzing")
"""Also requests that are drawn at random."""


def document_of(url: str) -> dict[str, Any]:
    """The OpenAPI document of the service at `url`; responses may have no fields that it does not describe."""
    with urlopen(f"{url}/openapi.json") as response:
        document: dict[str, Any] = json.load(response)
    for schema in document["components"]["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return document


def explore(
    url: str,
    name: str,
    password: str,
    *,
    examples: int = EXAMPLES,
    phases: Sequence[str] = ALL,
    document: dict[str, Any] | None = None,
) -> str:
    """Return the output of a run that found nothing. Raises AssertionError with its findings.

    `document` is by default that of the service at `url`.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(document or document_of(url)))
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIGURATION)),
                *("run", str(file)),
                *("--url", url, "--auth", f"{name}:{password}", "--phases", ",".join(phases)),
                *(
                    "--checks",
                    "all",
                    "--exclude-checks",
                    "use_after_free",
                    "--seed",
                    "1",
                    "--max-examples",
                    str(examples),
                ),
                *("--generation-deterministic", "--warnings", "off", "--no-color"),
            ],
            cwd=folder,  # where it keeps findings; the next run would begin with those
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
