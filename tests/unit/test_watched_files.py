"""A service reads its files again when they change. Content at fault changes nothing."""

import os
from pathlib import Path

import pytest

from chassis import watched_files
from chassis.logs import Logs
from chassis.watched_files import RETRY_SECONDS, WatchedFile, WatchedFiles
from support.internals import CollectedLines


class Watched:
    """A file, its content in force, and the looks at it. Content that begins with "bad" is refused."""

    def __init__(self, path: Path, *, is_public: bool = False) -> None:
        path.write_text("first")
        self.path = path
        self.file = WatchedFile("the fee schedule", path, is_public=is_public)
        self.content = path.read_text()
        self.reads = 0
        logs = Logs("payee")
        self.lines = logs.writer = CollectedLines()
        self.files = WatchedFiles(logs)
        self.files.add(self.file, self.reload)

    async def reload(self) -> dict[str, object]:
        self.reads += 1
        content = self.path.read_text()
        if content.startswith("bad"):
            raise ValueError(f"{self.path}: {content}")
        self.content = content
        return {"characters": len(content)}

    async def looks(self, number: int) -> list[str]:
        """Look for changes so often; return the content in force after each look."""
        seen = []
        for _ in range(number):
            await self.files.look()
            seen.append(self.content)
        return seen

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines.events]


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path / "fees.toml")


RELOADED = "the fee schedule was reloaded"
REFUSED = "the fee schedule is refused; the previous content stays in force"


async def test_a_file_that_does_not_change_is_not_read_again(watched):
    await watched.looks(3)

    assert (0, []) == (watched.reads, watched.events)


async def test_a_changed_file_is_read_when_it_is_the_same_at_two_looks(watched):
    """An editor may write a file in several steps, and its first half may be a valid file."""
    watched.path.write_text("sec")
    first = await watched.looks(1)
    watched.path.write_text("second")

    assert ["first", "first", "second", "second"] == first + await watched.looks(3)
    assert [RELOADED] == watched.events
    (line,) = watched.lines.events
    assert (str(watched.path), 6) == (line["file"], line["characters"])


async def test_a_file_that_is_renamed_into_its_place_is_read_although_size_and_time_are_equal(watched):
    before = watched.path.stat()
    beside = watched.path.with_suffix(".new")
    beside.write_text("other")
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.rename(watched.path)

    assert "other" == (await watched.looks(2))[-1]


async def test_a_file_behind_a_symbolic_link_to_a_folder_is_read_when_the_link_is_swapped(tmp_path):
    """Kubernetes changes the files of a ConfigMap in this way."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    (tmp_path / "..data").symlink_to("old")
    (tmp_path / "fees.toml").symlink_to("..data/fees.toml")
    watched = Watched(tmp_path / "fees.toml")
    (tmp_path / "new" / "fees.toml").write_text("second")
    (tmp_path / "..data_tmp").symlink_to("new")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    assert "second" == (await watched.looks(2))[-1]


async def test_a_refused_file_changes_nothing_and_is_logged_once(watched):
    watched.path.write_text("bad")

    assert ["first"] * 5 == await watched.looks(5)
    assert ([REFUSED], [REFUSED], 1) == (watched.events, watched.files.warnings, watched.reads)
    (line,) = watched.lines.events
    assert ("error", f"{watched.path}: bad") == (line["level"], line["cause"])


async def test_readiness_names_the_fault_of_a_public_file_without_its_folder(tmp_path):
    watched = Watched(tmp_path / "fees.toml", is_public=True)
    watched.path.write_text("bad rule 2")
    await watched.files.reload()

    assert [f"{REFUSED}: fees.toml: bad rule 2"] == watched.files.warnings


async def test_a_corrected_file_takes_effect_and_the_warning_ends(watched):
    watched.path.write_text("bad")
    await watched.looks(2)
    watched.path.write_text("second")
    await watched.looks(2)

    assert ("second", []) == (watched.content, watched.files.warnings)
    assert [REFUSED, RELOADED] == watched.events


async def test_a_missing_file_changes_nothing_until_it_is_there_again(watched):
    watched.path.unlink()
    await watched.looks(2)
    warnings = watched.files.warnings
    watched.path.write_text("second")

    assert ["first", "second"] == await watched.looks(2)
    assert ([REFUSED], []) == (warnings, watched.files.warnings)


async def test_a_refused_file_is_tried_again_later_without_a_change(watched, monkeypatch):
    """The fault may be another one than the content: a database that is away, or a disk."""
    now = [100.0]
    monkeypatch.setattr(watched_files.time, "monotonic", lambda: now[0])
    watched.path.write_text("bad")
    await watched.looks(2)
    now[0] += RETRY_SECONDS - 0.1
    await watched.looks(2)
    before = watched.reads
    now[0] += 0.2
    await watched.looks(2)

    assert (1, 2) == (before, watched.reads)
    assert [REFUSED] == watched.events


async def test_a_reload_on_request_reads_at_once_and_logs_every_fault(watched):
    watched.path.write_text("second")
    await watched.files.reload()
    after = watched.content
    watched.path.write_text("bad")
    await watched.files.reload()
    await watched.files.reload()
    await watched.looks(3)

    assert ("second", 3) == (after, watched.reads)
    assert [RELOADED, REFUSED, REFUSED] == watched.events


async def test_a_file_that_the_service_has_written_itself_is_not_read_again(watched):
    watched.path.write_text("bad")
    await watched.looks(2)
    watched.path.write_text("of the service")
    watched.file.note_written()
    await watched.looks(3)

    assert (1, []) == (watched.reads, watched.files.warnings)


async def test_several_files_are_read_together_when_one_has_changed(tmp_path):
    """A certificate and its key."""
    paths = [tmp_path / "certificate", tmp_path / "key"]
    for path in paths:
        path.write_text("first")
    files, seen = WatchedFiles(Logs("payee")), []

    async def reload() -> dict[str, object]:
        seen.append([path.read_text() for path in paths])
        return {}

    files.add(WatchedFile("the TLS configuration", *paths, None), reload)
    paths[0].write_text("second")
    await files.look()
    paths[1].write_text("second")
    for _ in range(3):
        await files.look()

    assert [["second", "second"]] == seen


async def test_an_unexpected_error_of_one_file_does_not_end_the_looks_at_the_others(watched):
    async def fail() -> dict[str, object]:
        raise RecursionError

    path = watched.path.with_name("other")
    path.write_text("first")
    files = WatchedFiles(Logs("payee"))
    files.add(WatchedFile("the users file", path), fail)
    files.add(watched.file, watched.reload)
    path.write_text("deep")
    watched.path.write_text("second")
    await files.look()
    await files.look()

    assert "second" == watched.content
    assert ["the users file is refused; the previous content stays in force"] == files.warnings
