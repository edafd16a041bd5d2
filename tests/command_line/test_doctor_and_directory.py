"""`quotes doctor` and `quotes directory`, against the chain and against services that are not well."""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trustme
from aiohttp import web

from support.command_line import CommandLine, without_colour
from support.serving import Seen, reply, stub

HOPS = [
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
]


@pytest.fixture
def admin(quotes) -> CommandLine:
    credentials = {"QUOTES_USER": "admin", "QUOTES_PASSWORD": "admin"}
    return CommandLine(quotes.home, {**quotes.environment, **credentials})


async def test_a_network_that_is_well_has_exit_code_0(quotes, chain):
    services = [f"{name}={chain.origin(name)}" for name in [*HOPS, "central-directory"]]
    found = await quotes.json("doctor", *services, "--to", "eur:30754016")

    assert found["isWell"]
    assert [*HOPS, "central-directory"] == [each["name"] for each in found["services"]]
    assert {
        "name",
        "url",
        "version",
        "responseMs",
        "clockDifferenceS",
        "certificateExpires",
        "problems",
    } == set(found["services"][0])
    assert [] == [problem for each in found["services"] for problem in each["problems"]]
    assert 1 == len({each["version"] for each in found["services"]})
    assert (chain.origin("spsp-server"), None) == (
        found["directory"]["spspReceiver"],
        found["directory"]["problem"],
    )


async def test_a_terminal_shows_each_service_with_a_mark(quotes, chain):
    services = [f"payer={chain.url}", "gone=http://127.0.0.1:1"]
    shown = await quotes.on_terminal("doctor", *services, "--to", "eur:nobody")
    text = without_colour(shown.output)

    assert 1 == shown.code
    assert "\x1b[32mok" in shown.output
    assert "\x1b[1;31m!!" in shown.output
    assert "gone: No response from http://127.0.0.1:1/health/ready: ClientConnectorError." in text
    assert (
        "directory: status 404: The directory has no receiver with this identifierType and identifier."
        in text
    )


async def test_a_receiver_that_the_directory_does_not_know_is_a_problem(quotes, chain):
    done = await quotes.run("doctor", f"payer={chain.url}", "--to", "eur:nobody", "--json")

    assert (1, False) == (done.code, done.json["isWell"])
    assert done.json["directory"]["problem"].startswith("status 404: ")


async def test_services_can_stand_in_the_configuration(quotes, chain):
    file = quotes.home / ".config" / "dfsp-quotes.toml"
    file.write_text(f'[services]\npayer = "{chain.url}"\n')

    assert ["payer"] == [each["name"] for each in (await quotes.json("doctor"))["services"]]


async def test_what_is_wrong_with_a_service_is_said(bare):
    async def answer(seen: Seen) -> web.Response:
        past = datetime.now(UTC) - timedelta(hours=1)
        headers = {"Date": format_datetime(past, usegmt=True)}
        if seen.target == "/openapi.json":
            return web.json_response({"info": {"version": "9.9"}}, headers=headers)
        content = {"status": "not ready", "missing": ["the database does not respond"]}
        return web.json_response(content, status=503, headers=headers)

    async with stub(answer) as ill, stub(reply(200, {"info": {"version": "0.1"}})) as other:
        done = await bare.run("doctor", f"ill={ill.url}", f"other={other.url}", "--json")
    found = done.json["services"]

    assert 1 == done.code
    assert "not ready: the database does not respond" == found[0]["problems"][0]
    assert -3_601 <= found[0]["clockDifferenceS"] <= -3_500
    assert found[0]["problems"][1].startswith("the clock differs by -3")
    assert "versions differ: 0.1, 9.9" == found[0]["problems"][2] == found[1]["problems"][0]


async def test_a_file_with_a_fault_is_a_problem_of_a_service_that_is_ready(bare):
    content = {"status": "ready", "warnings": ["the fee schedule is refused"], "info": {"version": "0.1"}}
    async with stub(reply(200, content)) as server:
        done = await bare.run("doctor", f"a={server.url}", "--json")
    [service] = done.json["services"]

    assert (1, ["the fee schedule is refused"]) == (done.code, service["problems"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not ready: status 503"),
        (b"<html>", "not ready: status 503"),
        ([], "not ready: status 503"),
        ({"missing": 1}, "not ready: status 503"),
        ({"missing": [{"a": "\x1b[31m"}]}, "not ready: {'a': '\\x1b[31m'}"),
        (b"[" * 100_000, "not ready: status 503"),
        ({"missing": ["x" * 1_000]}, f"not ready: {'x' * 300}"),
        (b" " * 2_000_000, "not ready: status 503"),
    ],
)
async def test_a_strange_answer_is_a_problem_and_nothing_more(bare, content, problem):
    async with stub(reply(503, content)) as server:
        done = await bare.run("doctor", f"a={server.url}", "--json")
    [service] = done.json["services"]

    assert (1, None) == (done.code, service["version"])
    assert [problem] == service["problems"]


@pytest.mark.parametrize(("days", "is_well"), [(100, True), (5, False)])
async def test_the_expiry_of_a_certificate_is_shown_and_a_problem_if_near(bare, tmp_path, days, is_well):
    authority = trustme.CA()
    expires = datetime.now(UTC) + timedelta(days=days, minutes=30)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", not_after=expires).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"info": {"version": "1"}})

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    trusting = CommandLine(bare.home, {"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
    trusted = await trusting.run("doctor", f"a={url}", "--json")
    untrusted = await bare.run("doctor", f"a={url}", "--json")
    await runner.cleanup()
    [service] = trusted.json["services"]

    assert (not is_well, is_well) == (bool(trusted.code), trusted.json["isWell"])
    assert f"{expires:%Y-%m-%dT%H:%M:%SZ}" == service["certificateExpires"]
    assert ([] if is_well else [f"the TLS certificate expires in {days}.0 days"]) == service["problems"]
    assert [f"The TLS certificate of {url}/health/ready is not trusted."] == untrusted.json["services"][0][
        "problems"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("doctor",), "Name 1 to 100 services: as NAME=URL, with --port, or in the table services of "),
        (
            ("doctor", "http://127.0.0.1:1"),
            "A service must be NAME=URL, such as payer=http://127.0.0.1:8010.",
        ),
        (("doctor", "a=127.0.0.1"), "A base URL must be absolute, http or https, without user, query"),
        (("doctor", "a=http://x", "--port", "1"), "Give either --port or services, not both."),
        (("doctor", "--port", "0"), "--port must be from 1 to "),
        (("doctor", "--port", "x"), "Invalid value for '--port'"),
        (("doctor", "a=http://x", "--timeout", "0"), "--timeout must be above 0 and at most 3,600 seconds."),
        (
            ("doctor", "a=http://x", "--timeout", "nan"),
            "--timeout must be above 0 and at most 3,600 seconds.",
        ),
        (
            ("doctor", "a=http://x", "--to", "eur"),
            "The receiver must be TYPE:IDENTIFIER, such as eur:30754016.",
        ),
        (
            ("doctor", "a=http://x", "--to", "eur:1"),
            "--directory-url is missing; set it, or QUOTES_DIRECTORY_URL",
        ),
        (("directory", "list", "eur"), "The receiver must be TYPE:IDENTIFIER, such as eur:30754016."),
        (
            ("directory", "add", "eur:1", "x"),
            "A base URL must be absolute, http or https, without user, query",
        ),
        (("directory", "list"), "--url is missing; set it, or QUOTES_DIRECTORY_URL, or directory_url in "),
        (("directory", "register", "a"), "Missing option '--secret-file'."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(refusal, arguments, message):
    assert refusal(*arguments).startswith(message)


async def test_the_types_and_the_dfsps_of_a_person_are_listed(quotes, chain):
    types = (await quotes.json("directory", "list"))["identifierTypes"]
    [dfsp] = (await quotes.json("directory", "list", "eur:30754016"))["dfsps"]

    assert {"eur", "tel"} == {each["identifierType"] for each in types}
    assert (chain.origin("spsp-server"), True) == (dfsp["providerUrl"], dfsp["primary"])


async def test_an_account_is_added_and_found(admin):
    added = await admin.json("directory", "add", "tel:+1555", "http://spsp.example/base/")
    await admin.json("directory", "add", "tel:+1555", "http://other.example", "--secondary")
    found = (await admin.json("directory", "list", "tel:+1555"))["dfsps"]
    shown = await admin.on_terminal("directory", "list", "tel:+1555")

    assert {
        "identifierType": "tel",
        "identifier": "+1555",
        "spspReceiver": "http://spsp.example/base",
        "primary": True,
    } == added
    assert [("http://spsp.example/base", True), ("http://other.example", False)] == [
        (each["providerUrl"], each["primary"]) for each in found
    ]
    assert "http://spsp.example/base (primary)" in shown.output


async def test_a_registered_dfsp_has_its_secret_in_a_new_file_only(admin, tmp_path):
    registered = await admin.json("directory", "register", "command-line", "--secret-file", "secret")
    secret = (tmp_path / "secret").read_text()
    again = await admin.error(2, "directory", "register", "command-line-2", "--secret-file", "secret")
    refused = await admin.error(1, "directory", "register", "command-line", "--secret-file", "other")

    assert {"name", "key", "secretFile"} == set(registered)
    assert len(secret.strip()) >= 16
    assert secret.strip() not in str(registered)
    assert 0o600 == (tmp_path / "secret").stat().st_mode & 0o777
    assert "secret exists already; choose a new file." == again
    assert "AlreadyExistsError" in refused
    assert not (tmp_path / "other").exists()


async def test_only_the_administrator_may_change_the_directory(quotes):
    message = await quotes.error(1, "directory", "add", "tel:+1556", "http://spsp.example")

    assert message.startswith(
        "Only the directory's administrator may change the directory. (ForbiddenError, "
    )


async def test_faults_of_a_body_are_named(admin):
    message = await admin.error(2, "directory", "add", "TEL!:1", "http://spsp.example")

    assert message.startswith("identifierType: ")
