"""`quotes trace` shows the way of a request, from the log files of a network."""

import asyncio

import pytest

from support.command_line import PATIENCE_SECONDS, RESERVE, TO, without_colour
from support.log_lines import entry

HOPS = [
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
]
UUID = "729bce92-21a4-4a0f-9d6d-ee5a8d1eb1a5"


@pytest.fixture
def logs(tmp_path):
    """Writes log lines by service into the logs of a data folder."""
    folder = tmp_path / "data" / "logs"
    folder.mkdir(parents=True)

    def write(**lines: list[str]) -> None:
        for service, content in lines.items():
            path = folder / f"{service.replace('_', '-')}.log"
            path.write_text("".join(f"{line}\n" for line in content))

    return write


async def test_the_trace_of_a_reservation_has_each_hop_of_the_chain(quotes, chain):
    quote = await quotes.json(*RESERVE)
    trace = await traced(quotes, chain, quote["traceId"])
    hops = [hop for hop in trace["hops"] if hop["service"] != "central-directory"]

    assert HOPS == [hop["service"] for hop in hops]
    assert {200} == {hop["status"] for hop in hops}
    assert {"POST /v1/quoteSourceAmount"} == {hop["text"] for hop in hops}
    assert trace["durationMs"] >= hops[0]["durationMs"] > hops[-1]["durationMs"] > 0
    assert {"service", "offsetMs", "durationMs", "status", "text", "error"} == set(hops[0])


async def traced(quotes, chain, wanted: str) -> dict:
    """Return the one trace."""
    [trace] = await all_traced(quotes, chain, wanted, 1)
    return trace


async def all_traced(quotes, chain, wanted: str, number: int) -> list[dict]:
    """Return the traces. Services hold log lines back for a moment, so they may not be there at once."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            done = await quotes.run("trace", wanted, "--data", chain.logs.parent, "--json")
            traces = done.json.get("traces", [])
            whole = [trace for trace in traces if set(HOPS) <= {hop["service"] for hop in trace["hops"]}]
            if len(whole) >= number:
                return traces
            await asyncio.sleep(0.1)


async def test_the_uuid_of_a_quote_finds_its_reservation_and_its_look_up(quotes, chain):
    quote = await quotes.json(*RESERVE)
    shown = await quotes.json("show", quote["uuid"], *TO)
    reserved, looked_up = await all_traced(quotes, chain, quote["uuid"].upper(), 2)

    assert (quote["traceId"], shown["traceId"]) == (reserved["traceId"], looked_up["traceId"])
    assert "POST /v1/quoteSourceAmount" == reserved["hops"][0]["text"]
    assert f"GET /v1/quote/{quote['uuid']}" == looked_up["hops"][0]["text"]


async def test_a_terminal_gets_a_waterfall_with_colours(bare, logs):
    logs(
        dfsp_api_payer=[entry("dfsp-api-payer", at=2.0, ms=8.0, trace="t1")],
        spsp_client_proxy=[
            entry(
                "spsp-client-proxy",
                at=1.998,
                ms=4.0,
                trace="t1",
                status=502,
                id="UpstreamError",
                cause="gone",
            )
        ],
        dfsp_api=[entry("dfsp-api", at=5.0, trace="other")],
    )
    shown = await bare.on_terminal("trace", "t1", "--data", "data")
    _title, request, *hops = without_colour(shown.output).splitlines()

    assert 0 == shown.code
    assert "POST /v1/quoteSourceAmount" == request
    assert [
        f"dfsp-api-payer     {'█' * 32}  8.0 ms  200",
        f"spsp-client-proxy  {' ' * 8}{'█' * 16}{' ' * 8}  4.0 ms  502  UpstreamError: gone",
    ] == [hop.rstrip() for hop in hops]
    assert "\x1b[32m█" in shown.output
    assert "\x1b[31m502" in shown.output


async def test_lines_that_are_no_requests_belong_to_the_trace(bare, logs):
    line = '{"time": "2026-11-21T00:00:01.500Z", "event": "password checked", "traceId": "t1", "user": "a"}'
    logs(dfsp_api_payer=[entry("dfsp-api-payer", at=2.0, ms=800.0, trace="t1"), line])
    [trace] = (await bare.json("trace", "t1", "--data", "data"))["traces"]

    assert ("password checked user=a", None, 0.0) == tuple(
        next(
            (hop["text"], hop["status"], hop["durationMs"]) for hop in trace["hops"] if hop["status"] is None
        )
    )


@pytest.mark.parametrize(
    "damage", ["", "not JSON t1\n", '{"traceId": "t1"', '{"traceId": 1}\n', "\x00\xff t1\n"]
)
def test_damaged_lines_are_left_out(refusal, logs, tmp_path, damage):
    logs(dfsp_api=[])
    (tmp_path / "data" / "logs" / "dfsp-api.log").write_text(damage)

    assert refusal("trace", "t1", "--data", "data", code=1).startswith(
        "No line in data/logs has this trace id"
    )


def test_a_folder_without_logs_is_bad_input(refusal):
    message = "There is no folder none/logs; --data names the data folder of `make run`."

    assert message == refusal("trace", UUID, "--data", "none")


@pytest.mark.parametrize("wanted", ["", "a b", "a" * 65, "a/b"])
def test_an_id_that_cannot_be_one_is_bad_input(refusal, wanted):
    assert refusal("trace", wanted).startswith("ID must be a trace id or a uuid")


async def test_the_traces_and_the_lines_of_a_trace_have_a_limit(bare, logs):
    path = f"/v1/quote/{UUID}"
    logs(
        dfsp_api=[entry("dfsp-api", trace="long", path=path)] * 1_100,
        spsp_server=[entry("spsp-server", at=2.0, trace=f"t{number}", path=path) for number in range(30)],
    )
    traces = (await bare.json("trace", UUID, "--data", "data"))["traces"]

    assert 20 == len(traces)
    assert ("long", 1_000) == (traces[0]["traceId"], len(traces[0]["hops"]))
