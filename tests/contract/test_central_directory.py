"""The reference directory: both forms of look-up, registration, and its file (wire.md §5)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from multidict import CIMultiDict

from central_directory import app as central_directory
from central_directory.content import DirectoryContent
from central_directory.registry import Registry
from chassis.run import StartError
from support.client import ClientResponse, is_error_object
from support.forwarders import FORWARDERS, SOURCE, authorization
from support.internals import CollectedLines, collect_lines, reload, reload_changed
from support.messages import TEST, headers, keys_of
from support.serving import served
from support.settings import load

ADMIN = authorization("admin:admin")
RESOURCE = {
    "identifierType": "eur",
    "identifier": "30754016",
    "spspReceiver": "http://spsp-server",
    "primary": True,
}


@dataclass
class Directory:
    url: str
    client: object
    log: CollectedLines

    async def get(self, path: str, given: str | None = TEST) -> ClientResponse:
        return await self._send("GET", path, given, None)

    async def post(self, path: str, content: object, given: str | None = ADMIN) -> ClientResponse:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self._send("POST", path, given, body)

    async def _send(self, method, path, given, body) -> ClientResponse:
        async with self.client.request(
            method, self.url + path, data=body, headers=headers(given)
        ) as response:
            return ClientResponse(response.status, CIMultiDict(response.headers), await response.read())


@pytest.fixture
def directory_file(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "directory.json"


@pytest.fixture
async def started(users_file, client, directory_file) -> AsyncIterator[Callable]:
    """Starts a directory; all use the same file, in a folder that a test may take away."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Directory]:
        environment = {
            "QUOTES_USERS_FILE": str(users_file),
            "QUOTES_DIRECTORY_FILE": str(directory_file),
        }
        app = central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
        log = collect_lines(app)
        async with served(app) as url:
            yield Directory(url, client, log)

    return start


@pytest.fixture
async def directory(started) -> AsyncIterator[Directory]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(started())


async def test_metadata_lists_the_urls(directory):
    answer = await directory.get("/")

    assert 200 == answer.status
    assert {"directory", "urls"} == set(answer.json)
    assert f"{directory.url}/resources" == answer.json["urls"]["resources"]


async def test_identifier_types_are_listed_with_descriptions(directory):
    assert [] == (await directory.get("/identifier-types")).json
    await directory.post("/resources", RESOURCE)

    answer = await directory.get("/identifier-types")
    assert [{"identifierType", "description"}] == [set(each) for each in answer.json]
    assert "eur" == answer.json[0]["identifierType"]


async def test_an_identifier_is_found_by_both_forms_of_query(directory):
    added = await directory.post("/resources", RESOURCE)
    separate = await directory.get("/resources?identifierType=eur&identifier=30754016")
    joined = await directory.get("/resources?identifier=eur:30754016")

    assert (201, RESOURCE) == (added.status, added.json)
    assert (200, {"spspReceiver": "http://spsp-server"}) == (separate.status, separate.json)
    [entry] = joined.json
    assert {"name", "shortName", "providerUrl", "primary", "registered"} == set(entry)
    assert ("http://spsp-server", True, True) == (entry["providerUrl"], entry["primary"], entry["registered"])


@pytest.mark.parametrize("query", ["identifierType=eur&identifier=1", "identifier=eur:1", "identifier=xyz:30754016",
    "identifierType=xyz&identifier=30754016"])  # fmt: skip
async def test_an_unknown_person_is_404(directory, query):
    await directory.post("/resources", RESOURCE)

    answer = await directory.get(f"/resources?{query}")

    assert (404, "ReceiverNotFoundError") == (answer.status, answer.id)
    assert is_error_object(answer)


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("", "identifier"),
        ("identifier=30754016", "identifier"),
        ("identifier=:1", "identifierType"),
        ("identifier=eur:", "identifier"),
        ("identifier=EUR:1", "identifierType"),
        ("identifierType=eur", "identifier"),
        ("identifierType=&identifier=1", "identifierType"),
        ("identifierType=EUR&identifier=1", "identifierType"),
        ("identifierType=eur&identifier=" + "x" * 129, "identifier"),
        ("identifierType=eur&identifier=%00", "identifier"),
        ("identifier=eur:1&identifier=eur:1", "identifier"),
        ("identifier=eur:1&x=1", "x"),
    ],
)
async def test_an_invalid_query_names_the_parameter_at_fault(directory, query, key):
    answer = await directory.get(f"/resources?{query}")

    assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)
    assert key in keys_of(answer.json)


async def test_an_identifier_may_contain_a_colon(directory):
    await directory.post("/resources", {**RESOURCE, "identifier": "a:b c&d"})

    assert 200 == (await directory.get(f"/resources?identifier={quote('eur:a:b c&d')}")).status


async def test_only_the_newest_primary_account_is_primary(directory):
    """Quote API §I.2: which the recipient's default DFSP is."""
    for receiver, primary in (("http://one", True), ("http://two", False), ("http://three/", True)):
        await directory.post("/resources", {**RESOURCE, "spspReceiver": receiver, "primary": primary})

    separate = await directory.get("/resources?identifierType=eur&identifier=30754016")
    joined = await directory.get("/resources?identifier=eur:30754016")
    assert {"spspReceiver": "http://three"} == separate.json
    assert {"http://one": False, "http://two": False, "http://three": True} == {
        each["providerUrl"]: each["primary"] for each in joined.json
    }


async def test_a_person_without_a_primary_dfsp_is_not_found(directory):
    await directory.post("/resources", {**RESOURCE, "primary": False})

    for query in ("identifierType=eur&identifier=30754016", "identifier=eur:30754016"):
        assert 404 == (await directory.get(f"/resources?{query}")).status


async def test_a_registered_dfsp_may_only_look_up(directory):
    await directory.post("/resources", RESOURCE)
    registered = await directory.post("/commands/register", {"name": "dfsp1"})
    own = authorization(f"{registered.json['key']}:{registered.json['secret']}")

    assert 201 == registered.status
    assert {"name", "key", "secret"} == set(registered.json)
    assert 200 == (await directory.get("/resources?identifier=eur:30754016", own)).status
    assert 401 == (await directory.get("/resources?identifier=eur:30754016", own[:-8] + "AAAAAA==")).status
    assert 403 == (await directory.post("/resources", RESOURCE, own)).status
    assert 403 == (await directory.post("/commands/register", {"name": "dfsp2"}, own)).status


async def test_a_name_is_registered_once(directory):
    first = await directory.post("/commands/register", {"name": "dfsp1"})
    again = await directory.post("/commands/register", {"name": "dfsp1"})

    assert 201 == first.status
    assert (422, "AlreadyExistsError") == (again.status, again.id)
    assert is_error_object(again)


@pytest.mark.parametrize(
    ("path", "content"), [("/resources", RESOURCE), ("/commands/register", {"name": "x"})]
)
async def test_only_the_administrator_may_change_the_directory(directory, path, content):
    for given, status in ((None, 401), (authorization("admin:wrong"), 401), (TEST, 403)):
        answer = await directory.post(path, content, given)

        assert status == answer.status
        assert is_error_object(answer)
    assert 404 == (await directory.get("/resources?identifier=eur:30754016")).status


@pytest.mark.parametrize("path", ["/", "/identifier-types", "/resources?identifier=eur:1"])
async def test_reading_needs_credentials(directory, path):
    answer = await directory.get(path, None)

    assert 401 == answer.status
    assert 'Basic realm="central-directory", charset="UTF-8"' == answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"identifierType": "EUR"}, "identifierType"),
        ({"identifierType": 1}, "identifierType"),
        ({"identifier": ""}, "identifier"),
        ({"identifier": "x" * 129}, "identifier"),
        ({"identifier": "\ud800"}, "identifier"),
        ({"spspReceiver": "one"}, "spspReceiver"),
        ({"spspReceiver": "ftp://one"}, "spspReceiver"),
        ({"spspReceiver": "http://a@one"}, "spspReceiver"),
        ({"spspReceiver": "http://one?x=1"}, "spspReceiver"),
        ({"spspReceiver": "http://a b"}, "spspReceiver"),
        ({"spspReceiver": "http://one "}, "spspReceiver"),
        ({"spspReceiver": "http://one/a b"}, "spspReceiver"),
        ({"spspReceiver": "http://one/<x>"}, "spspReceiver"),
        ({"spspReceiver": "http://one\\two"}, "spspReceiver"),
        ({"spspReceiver": "http://one\u200b"}, "spspReceiver"),
        ({"spspReceiver": "http://one:99999"}, "spspReceiver"),
        ({"spspReceiver": "http://" + "x" * 2_048}, "spspReceiver"),
        ({"spspReceiver": None}, "spspReceiver"),
        ({"primary": "true"}, "primary"),
        ({"primary": 1}, "primary"),
        ({"primary": None}, "primary"),
        ({"x": 1}, "x"),
    ],
)
async def test_an_invalid_resource_names_the_field_at_fault(directory, changed, key):
    answer = await directory.post("/resources", {**RESOURCE, **changed})

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert {key} == set(keys_of(answer.json))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"name": ""},
        {"name": 1},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"name": "a", "x": 1},
        [],
        b"",
        b"{",
    ],
)
@pytest.mark.parametrize("path", ["/commands/register", "/resources"])
async def test_an_invalid_body_is_400(directory, path, content):
    answer = await directory.post(path, content)

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert is_error_object(answer)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
async def test_it_serves_what_every_service_serves(directory, path):
    assert 200 == (await directory.get(path, None)).status


@pytest.mark.parametrize(("method", "path", "status"), [("DELETE", "/resources", 405), ("GET", "/x", 404)])
async def test_an_unknown_path_is_404_and_a_wrong_method_405(directory, method, path, status):
    answer = await directory._send(method, path, ADMIN, None)

    assert (status, True) == (answer.status, is_error_object(answer))


async def test_all_content_survives_a_restart(started):
    async with started() as directory:
        await directory.post("/resources", RESOURCE)
        await directory.post("/resources", {**RESOURCE, "spspReceiver": "http://two", "primary": False})
        registered = (await directory.post("/commands/register", {"name": "dfsp1"})).json
        before = (await directory.get("/resources?identifier=eur:30754016")).json

    async with started() as directory:
        own = authorization(f"{registered['key']}:{registered['secret']}")
        after = await directory.get("/resources?identifier=eur:30754016", own)
        assert (200, before) == (after.status, after.json)
        assert 422 == (await directory.post("/commands/register", {"name": "dfsp1"})).status


async def test_a_secret_is_stored_only_as_a_hash(directory, directory_file):
    registered = (await directory.post("/commands/register", {"name": "dfsp1"})).json

    stored = directory_file.read_text()
    assert registered["key"] in stored
    assert registered["secret"] not in stored
    assert 0o600 == directory_file.stat().st_mode & 0o777


ENTRY = {"identifierType": "eur", "identifier": "30754016", "spspReceiver": "http://one", "primary": True}


def document(**changed) -> str:
    return json.dumps({"types": {}, "resources": [ENTRY, {**ENTRY, **changed}]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a directory file: .*line 1"),
        ("[]", "is not a directory file: Expected `object`"),
        ('{"types": {},\n"resources": [}', "is not a directory file: .*line 2"),
        ('{"types": 1, "resources": []}', r"is not a directory file: .*\$\.types"),
        (document(primary=None), r"is not a directory file: .*\$\.resources\[1\]\.primary"),
        (document(identifierType="eur "), r"resources\[1\]\.identifierType must be 1 to 32"),
        (document(identifier=""), r"resources\[1\]\.identifier must be 1 to 128"),
        (document(spspReceiver="http://a b"), r"resources\[1\]\.spspReceiver must be an absolute"),
        (b'{"types": {"eur":\n"\xff"}, "resources": []}', "line 2: is not UTF-8"),
        (document().encode("utf-16"), "line 1: is not UTF-8"),
    ],
)
async def test_an_invalid_directory_file_is_refused_with_the_place_of_the_fault(
    started, directory_file, content, message
):
    directory_file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(StartError, match=rf"directory\.json.*{message}"):
        async with started():
            pass


async def test_a_byte_order_mark_in_the_directory_file_is_ignored(started, directory_file):
    directory_file.write_text(document(), encoding="utf-8-sig")
    async with started() as directory:
        answer = await directory.get("/resources?identifier=eur:30754016")

    assert 200 == answer.status


CHANGES = [("/commands/register", {"name": "dfsp1"}), ("/resources", RESOURCE)]


@pytest.mark.parametrize(("path", "body"), CHANGES)
async def test_a_change_that_cannot_be_written_changes_nothing(started, directory_file, path, body):
    away = directory_file.parent.with_name("away")
    async with started() as directory:
        directory_file.parent.rename(away)
        refused = await directory.post(path, body)
        looked_up = await directory.get("/resources?identifier=eur:30754016")
        types = await directory.get("/identifier-types")
        away.rename(directory_file.parent)
        repeated = await directory.post(path, body)
    stored = json.loads(directory_file.read_text())

    assert (503, "UnavailableError") == (refused.status, refused.id)
    assert "nothing was changed" in refused.json["message"]
    assert (404, []) == (looked_up.status, types.json)
    assert 201 == repeated.status, "the name is still free"
    assert 1 == len(stored["dfsps"]) + len(stored["resources"])


async def test_a_change_whose_caller_gives_up_is_stored_and_served(tmp_path):
    """The file must hold the entry, too: the next change writes the file from memory."""
    registry = Registry(tmp_path / "directory.json", DirectoryContent())
    adding = asyncio.create_task(registry.add("eur", "1", "http://one", is_primary=True))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    await registry.add("eur", "2", "http://two", is_primary=True)
    stored = json.loads((tmp_path / "directory.json").read_text())

    assert adding.cancelled()
    assert ["http://one"] == [each.url for each in registry.find("eur", "1")]
    assert ["1", "2"] == [entry["identifier"] for entry in stored["resources"]]


async def test_a_change_after_a_failed_one_stores_only_itself(started, directory_file):
    away = directory_file.parent.with_name("away")
    async with started() as directory:
        directory_file.parent.rename(away)
        for path, body in CHANGES:
            assert 503 == (await directory.post(path, body)).status
        away.rename(directory_file.parent)
        assert 201 == (await directory.post("/commands/register", {"name": "dfsp2"})).status
    stored = json.loads(directory_file.read_text())

    assert (["dfsp2"], []) == (list(stored["dfsps"]), stored["resources"])


async def test_a_failed_write_leaves_no_temporary_file(directory, directory_file):
    directory_file.mkdir()  # the file cannot replace a folder
    answer = await directory.post("/resources", RESOURCE)

    assert 503 == answer.status
    assert [directory_file] == list(directory_file.parent.iterdir())


async def test_the_directory_is_not_ready_while_its_file_cannot_be_written(started, directory_file):
    away = directory_file.parent.with_name("away")
    async with started() as directory:
        before = await directory.get("/health/ready", None)
        directory_file.parent.rename(away)
        unready = [await directory.get("/health/ready", None) for _ in range(2)]
        away.rename(directory_file.parent)
        after = await directory.get("/health/ready", None)
        logged = [
            line for line in directory.log.events if line["event"] == "the directory file cannot be written"
        ]

    assert [200, 503, 503, 200] == [each.status for each in (before, *unready, after)]
    assert ["a writable directory file"] == unready[0].json["missing"]
    assert 1 == len(logged), "once, not at each health check"
    assert str(directory_file) in logged[0]["cause"]


@pytest.mark.parametrize("form", ["separate", "joined"])
async def test_the_proxy_understands_both_forms(directory, start_hop, form):
    await directory.post("/resources", RESOURCE)
    hop = await start_hop(FORWARDERS["spsp-client-proxy"], directory_url=directory.url, directory_form=form)

    assert 200 == (await hop.send()).status
    assert f"http://spsp-server{SOURCE.path}" == hop.next_hop.seen[0].json["submissionUrl"]
    unknown = replace(SOURCE, body=SOURCE.body.replace(b"30754016", b"30754019"))
    assert 404 == (await hop.send(unknown)).status


async def test_sighup_reads_the_changed_file_again(users_file, client, directory_file):
    directory_file.write_text(json.dumps({"types": {"eur": "eur"}, "resources": [RESOURCE]}))
    environment = {"QUOTES_USERS_FILE": str(users_file), "QUOTES_DIRECTORY_FILE": str(directory_file)}
    app = central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
    log = collect_lines(app)
    async with served(app) as url:
        directory = Directory(url, client, log)
        changed = {**RESOURCE, "spspReceiver": "http://other"}
        directory_file.write_text(json.dumps({"types": {"eur": "eur"}, "resources": [changed]}))
        await reload(app)
        found = await directory.get("/resources?identifier=eur:30754016")
        directory_file.write_text('{"types": {}, "resou')
        await reload(app)
        still_found = await directory.get("/resources?identifier=eur:30754016")

    assert ["http://other"] == [each["providerUrl"] for each in found.json]
    assert found.body == still_found.body
    reloaded, refused = [event for event in log.events if event["event"].startswith("the directory file")]
    assert ("the directory file was reloaded", 1) == (reloaded["event"], reloaded["identifiers"])
    assert "the directory file is refused; the previous content stays in force" == refused["event"]
    assert f"{directory_file} is not a directory file" in refused["cause"]


async def test_an_edited_file_is_read_again_and_one_that_the_directory_has_written_itself_is_not(
    users_file, client, directory_file
):
    directory_file.write_text(json.dumps({"types": {"eur": "eur"}, "resources": []}))
    environment = {"QUOTES_USERS_FILE": str(users_file), "QUOTES_DIRECTORY_FILE": str(directory_file)}
    app = central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
    log = collect_lines(app)
    async with served(app) as url:
        directory = Directory(url, client, log)
        await directory.post("/resources", RESOURCE)
        await reload_changed(app)
        own = [event["event"] for event in log.events if event["event"] != "request"]
        directory_file.write_text(directory_file.read_text().replace("spsp-server", "other"))
        await reload_changed(app)
        found = await directory.get("/resources?identifier=eur:30754016")

    assert [] == own
    assert ["http://other"] == [each["providerUrl"] for each in found.json]
