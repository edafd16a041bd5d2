"""The demonstration of `make run`, against a stub of the chain."""

import http.server
import io
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from network.demo import Demo, DemoError
from network.terminal import Terminal
from network.topology import CHAIN
from support.log_lines import entry

UUID = "729bce92-cf6b-81d3-9085-437ed128fe45"


def mismatch(field):
    error = {
        "id": "QuoteMismatchError",
        "message": "differs",
        "validationErrors": [{"params": {"key": field}}],
    }
    return 409, error


class StubChain:
    """Answers like the chain, and writes the log lines of the services `logging`."""

    def __init__(self, logs, logging, *, amount="13.75", knows_lifetimes=True):
        self.knows_lifetimes = knows_lifetimes
        self.logs = logs
        self.logging = logging
        self.amount = amount
        self.is_paid = False
        self.expires = datetime.now(UTC) + timedelta(minutes=5)

    def post(self, trace_id, lifetime_ms):
        if lifetime_ms is not None and self.knows_lifetimes:
            self.expires = datetime.now(UTC) + timedelta(milliseconds=int(lifetime_ms))
        for service in self.logging:
            with (self.logs / f"{service}.log").open("a") as log:
                log.write(entry(service, trace=trace_id) + "\n")
        return 200, {"amount": self.amount, "uuid": UUID, "expires": self.expires.isoformat()}

    def put(self, path, body):
        if not path.endswith(UUID):
            return 404, {"id": "QuoteNotFoundError", "message": "no quote"}
        if body["amount"] != "12.50":
            return mismatch("amount")
        if self.is_paid and datetime.now(UTC) >= self.expires:
            return 410, {"id": "QuoteExpiredError", "message": "expired"}
        self.is_paid = True
        return 200, {"state": "EXECUTED"}


@contextmanager
def served(chain):
    class ChainHandler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self._reply(chain.post(self.headers["L1p-Trace-Id"], self.headers["X-Quote-Lifetime-Ms"]))

        def do_PUT(self):
            self._reply(
                chain.put(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            )

        def _reply(self, reply):
            status, content = reply
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), ChainHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def printed(chain, **options):
    stream = io.StringIO()
    with served(chain) as origin:
        Demo(origin, logs=chain.logs, terminal=Terminal(stream), **options).run()
    return stream.getvalue()


def test_each_hop_is_printed_and_an_expired_quote_is_shown(tmp_path):
    output = printed(StubChain(tmp_path, CHAIN))

    for service in CHAIN:
        assert service in output
    assert "logged no request" not in output
    assert "fee: 13.75 - 12.50 = 1.25 USD" in output
    assert "an expired quote (X-Quote-Lifetime-Ms: 100): PUT /v1/payments/" in output
    assert "410  QuoteExpiredError: expired" in output


def test_an_answer_of_the_directory_from_a_cache_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr("network.demo._LOG_SECONDS", 0.2)
    without_directory = [name for name in CHAIN if name != "central-directory"]

    assert "central-directory logged no request: spsp-client-proxy had its answer in its cache" in printed(
        StubChain(tmp_path, without_directory)
    )


def test_a_payee_that_does_not_know_lifetimes_is_not_waited_for(tmp_path):
    output = printed(StubChain(tmp_path, CHAIN, knows_lifetimes=False))

    assert "410 QuoteExpiredError (not shown, since this one expires at" in output


def test_an_unexpected_amount_is_an_error_unless_the_users_settings_may_be_the_reason(tmp_path):
    with pytest.raises(DemoError, match=r"the amount is 12\.70; expected 13\.75"):
        printed(StubChain(tmp_path, CHAIN, amount="12.70"))

    assert "fee: 12.70 - 12.50 = 0.20 USD" in printed(
        StubChain(tmp_path, CHAIN, amount="12.70"), own_settings=["QUOTES_FEE_SCHEDULE"]
    )


def test_a_users_file_without_the_sample_user_is_named_as_a_possible_reason(tmp_path):
    chain = StubChain(tmp_path, CHAIN)
    chain.post = lambda *_: (401, {"id": "UnauthorizedError", "message": "no valid credentials"})
    with pytest.raises(
        DemoError, match="expected 200; a users file without the sample user may be the reason"
    ):
        printed(chain)
