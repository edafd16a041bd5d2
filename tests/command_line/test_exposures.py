"""`quotes exposures`, against the chain."""

import dataclasses


async def test_an_operator_sees_exposures_and_limits(quotes):
    operator = dataclasses.replace(
        quotes, environment={**quotes.environment, "QUOTES_USER": "admin", "QUOTES_PASSWORD": "admin"}
    )

    found = await operator.json("exposures")
    shown = await operator.run("exposures")

    (exposure,) = found["exposures"]
    assert {
        "caller": "other",
        "currencyCode": "KWD",
        "sumLimit": "30.000",
        "countLimit": 2,
    }.items() <= exposure.items()
    assert ["caller", "currency", "sum", "limit", "quotes", "limit", "used"] == shown.output.splitlines()[
        0
    ].split()


async def test_others_are_refused(quotes):
    assert "ForbiddenError" in await quotes.error(1, "exposures")
