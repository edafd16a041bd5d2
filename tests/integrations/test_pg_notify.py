"""The connection that listens for messages of other processes."""

import asyncpg

from integrations.delivery import pg_notify
from integrations.delivery.pg_notify import PgNotifyListener
from support.provider import until
from support.swallowing_proxy import swallowing_proxy


async def test_a_connection_that_swallows_messages_is_replaced_within_ten_seconds(database_url, monkeypatch):
    assert pg_notify.HEARTBEAT_SECONDS + pg_notify.HEARTBEAT_TIMEOUT_SECONDS < 10
    monkeypatch.setattr(pg_notify, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(pg_notify, "HEARTBEAT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(pg_notify, "RECONNECT_SECONDS", 0.05)
    messages: list[str] = []
    connected: list[None] = []
    sql = await asyncpg.connect(database_url)
    async with swallowing_proxy(database_url) as proxy:
        listener = PgNotifyListener(proxy.url, "channel", messages.append, lambda: connected.append(None))
        listener.open()
        await until(lambda: connected)
        before = len(connected)
        proxy.swallow()
        await until(lambda: len(connected) > before)

        async def is_received() -> bool:
            await sql.execute("NOTIFY channel, 'again'")
            return bool(messages)

        await until(is_received)
        await listener.close()
    await sql.close()

    assert {"again"} == set(messages)
