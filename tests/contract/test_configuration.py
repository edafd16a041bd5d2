"""Only operators may use `GET /v1/configuration` of running services."""

from base64 import b64encode

from support.forwarders import FORWARDERS
from support.serving import served
from support.settings import load


async def test_only_an_operator_gets_the_configuration(users_file, client):
    forwarder = FORWARDERS["spsp-server"]
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_NEXT_HOP": "http://127.0.0.1:1",
        "QUOTES_OPERATORS": "admin",
    }
    app = forwarder.create_app(load(forwarder.settings, environment))
    got = {}
    async with served(app) as url:
        for user in ("admin:admin", "test:123", "admin:wrong"):
            headers = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
            async with client.get(f"{url}/v1/configuration", headers=headers) as response:
                got[user] = response.status, await response.json()

    assert {"admin:admin": 200, "test:123": 403, "admin:wrong": 401} == {
        user: status for user, (status, _) in got.items()
    }
    content = got["admin:admin"][1]
    assert ("spsp-server", []) == (content["service"], content["tables"])
    assert {"http://127.0.0.1:1"} == {
        each["value"] for each in content["settings"] if each["name"] == "QUOTES_NEXT_HOP"
    }
    assert "ForbiddenError" == got["test:123"][1]["id"]
