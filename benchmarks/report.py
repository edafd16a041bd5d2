"""Results as Markdown and JSON files."""

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import tables, targets
from benchmarks.measurement import Measurement
from benchmarks.medians import MedianRow
from benchmarks.options import Options


def comparison(about: dict[str, Any], measured: Sequence[Measurement], found: Sequence[MedianRow]) -> str:
    """Return the results of `make bench` as Markdown."""
    parts = ["# Results", described(about), noise(measured), tables.rates(found)]
    parts += ["## Targets", tables.targets_table(targets.outcomes(found))]
    for side in dict.fromkeys(row.side for row in found):
        own = [row for row in found if row.side == side]
        parts += [f"## Processes: {side}", tables.processor_times(own), tables.memory(own)]
    return joined(parts)


def described(about: dict[str, Any]) -> str:
    """Return a paragraph with the machine, the versions, and the number and length of the rounds."""
    own = ", ".join(f"`{name}={value}`" for name, value in about["settings"].items())
    return (
        f"Measured {about['measured']} at commit {about['commit']}, {about['rounds']} rounds of"
        f" {about['seconds']} s: medians. {about['processors']} processors ({about['processor']}),"
        f" {about['memory_gib']} GiB, Linux {about['kernel']}, Python {about['python']},"
        f" Postgres {about['postgres']}, load from {about['load']}.{f' Settings: {own}.' if own else ''}"
    )


def noise(measured: Sequence[Measurement]) -> str:
    """Return a sentence about the processor time of other processes. The more they used, the less the rates mean."""
    shares = [one.others_share for one in measured]
    return (
        f"Other processes used {median(shares):.0%} of the machine's processor time in the median round and"
        f" {max(shares):.0%} in the worst."
    )


def joined(parts: Sequence[str]) -> str:
    """Join the parts of a Markdown document."""
    return "\n\n".join(parts) + "\n"


def write(options: Options, name: str, content: dict[str, Any], text: str) -> None:
    """Print `text`. Write it to `<name>.md` in the text folder, and `content` to `<name>.json` in the JSON folder."""
    files = {
        options.text_folder / f"{name}.md": text,
        options.json_folder / f"{name}.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    }
    print(text)
    for file, written in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(written)
        print(f"written: {file}")
