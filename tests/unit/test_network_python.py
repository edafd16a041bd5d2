"""The choice of the Python for the virtual environment. Stubs on the path print a version and a duration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "shared" / "network" / "python.sh"


def choose(path, *named):
    return subprocess.run(
        ["/bin/sh", SCRIPT, *named], env={"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def path(tmp_path):
    """Make a PATH of folders with stubs. Each stub prints its text; with None it fails."""

    def made(*folders):
        names = []
        for number, pythons in enumerate(folders):
            folder = tmp_path / f"with a space {number}"
            folder.mkdir()
            for name, output in pythons.items():
                file = folder / name
                file.write_text("#!/bin/sh\n" + ("exit 1" if output is None else f"echo {output}") + "\n")
                file.chmod(0o755)
            names.append(str(folder))
        return ":".join(names)

    return made


@pytest.mark.parametrize(
    ("folders", "folder", "name"),
    [
        pytest.param([{"python3": "3.11 900"}, {"python3": "3.11 800"}], 0, "python3", id="about as fast"),
        pytest.param([{"python3": "3.11 900"}, {"python3": "3.11 700"}], 1, "python3", id="clearly faster"),
        pytest.param([{"python3": "3.11 900", "python3.11": "3.11 700"}], 0, "python3.11", id="by version"),
        pytest.param([{"python3": "3.11 900", "python3.13": "3.13 500"}], 0, "python3", id="another version"),
        pytest.param([{"python3": None, "python3.12": "3.12 900"}], 0, "python3.12", id="the first too old"),
        pytest.param([{"python3": None}, {"python3": "3.12 900"}], 1, "python3", id="the second new enough"),
    ],
)
def test_the_first_usable_python_is_chosen_unless_one_of_the_same_version_is_clearly_faster(
    path, folders, folder, name
):
    made = path(*folders)

    chosen = choose(made)

    assert chosen.stdout == f"{made.split(':')[folder]}/{name}\n"
    assert chosen.returncode == 0


def test_a_named_python_is_chosen_even_if_others_are_faster(path):
    made = path({"python3": "3.11 100", "mine": "3.12 900"})
    mine = f"{made}/mine"

    assert choose(made, mine).stdout == f"{mine}\n"


@pytest.mark.parametrize(
    ("named", "what"),
    [((), "No Python on the path"), (("python3.9",), "python3.9")],
    ids=["none on the path", "the one that is named"],
)
def test_without_a_usable_python_the_requirement_is_printed(path, named, what):
    chosen = choose(path({"python3": None, "python3.9": None}), *named)

    assert chosen.returncode == 1
    assert chosen.stdout == ""
    assert chosen.stderr.startswith(f"{what} cannot be used: Python 3.11 or later with venv is needed")


def test_a_real_python_can_be_probed(tmp_path):
    (tmp_path / "python3").symlink_to(os.path.realpath(sys.executable))

    assert choose(str(tmp_path)).stdout == f"{tmp_path}/python3\n"


def test_a_real_python_that_is_too_old_is_not_chosen(tmp_path):
    old = tmp_path / "python3"
    code = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -c "{code}" "$2"\n')
    old.chmod(0o755)

    assert choose(str(tmp_path)).returncode == 1
