"""The README's story of the two integration services, against what `make run` starts."""

import re
from pathlib import Path

from support.chain import free_ports
from support.payee import until
from support.sample_run import sample_run
from support.shell import Story

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = re.findall(
    r"^```sh\n(.*?)\n```$",
    README.partition("## Integrations")[2].partition("\n## ")[0],
    re.DOTALL | re.MULTILINE,
)


def test_the_readme_tells_the_story_in_six_curl_calls():
    assert 6 == len(COMMANDS)
    assert [1] * 6 == [command.count("curl ") for command in COMMANDS]


async def test_the_story_comes_true(client, passable):
    with sample_run(free_ports(), passable / "data") as run:
        run.wait_until_up()
        at = {
            f"http://127.0.0.1:{8010 + offset}": f"http://127.0.0.1:{run.port + offset}" for offset in (7, 8)
        }
        story = Story(client, at)
        statuses = [[status for status, _ in await story.run(command)] for command in COMMANDS[:-1]]

        assert all(status < 300 for answers in statuses for status in answers), (statuses, run.output)

        async def is_told():
            return "InsufficientFunds" in str(await story.run(COMMANDS[-1]))

        await until(is_told)
        ((status, seen),) = await story.run(
            "curl -u receiver:sample http://127.0.0.1:8018/v1/accounts/sample/trades"
        )

    assert 200 == status
    assert [
        ("OPEN", "BUY", "10"),
        ("CLOSE", "BUY", "10"),
        ("OPEN", "SELL", "10"),
        ("CLOSE", "SELL", "10"),
    ] == [(trade["action"], trade["direction"], trade["quantity"]) for trade in seen["trades"][::-1]]
