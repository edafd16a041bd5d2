"""SQL statements for operators, who see and repair the deliveries of all users.

The tables may have millions of rows, and no index has the state of an event: each change of it would write to the
index, too. So the waiting events are found through their lanes, and the events of an integration are read from the
newest to older ones. Each statement stops after a maximum number of rows.
"""

from typing import Final

from integrations.delivery.queue import queued_at
from integrations.events import SIGNALS


def _texts(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{each}'" for each in values)


_FIELDS: Final = """i.id, i.state, i.name, i.description, i.user_email, i.url, i.created, i.changed, i.pause_reason,
    i.failures, i.failing_since"""

NOW: Final = "SELECT clock_timestamp() AS now"

# $1 lanes, $2 events of a lane, $3 events in all, $4 integrations; the integration with the oldest event comes first
BACKLOG: Final = f"""
WITH ready AS MATERIALIZED (
    SELECT id, integration_id, done_seq, due, is_held FROM lane WHERE last_seq > done_seq ORDER BY due LIMIT $1
), waiting AS MATERIALIZED (
    SELECT r.id, r.integration_id, r.due, r.is_held, e.queued FROM ready r CROSS JOIN LATERAL (
        SELECT {queued_at("event")} AS queued FROM event
        WHERE lane_id = r.id AND seq > r.done_seq AND state = 'WAITING' ORDER BY seq, take LIMIT $2
    ) e LIMIT $3
), found AS (
    SELECT integration_id, count(*) AS waiting, count(DISTINCT id) AS lanes, min(queued) AS oldest,
        count(DISTINCT id) FILTER (WHERE is_held AND due > clock_timestamp()) AS lanes_in_progress,
        min(due) FILTER (WHERE NOT is_held AND due > clock_timestamp()) AS next_attempt
    FROM waiting GROUP BY integration_id
)
SELECT f.*, sum(waiting) OVER ()::bigint AS total_waiting, sum(lanes) OVER ()::bigint AS total_lanes,
    (SELECT count(*) FROM ready) AS examined_lanes
FROM found f ORDER BY oldest, integration_id LIMIT $4
"""

LANES: Final = f"""
SELECT l.id, l.strategy_id, l.is_enabled, l.is_held AND l.due > clock_timestamp() AS is_in_progress,
    CASE WHEN l.last_seq > l.done_seq AND NOT l.is_held AND l.due > clock_timestamp() THEN l.due END AS next_attempt,
    e.waiting, e.oldest
FROM lane l CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, min(w.queued) AS oldest FROM (
        SELECT {queued_at("event")} AS queued FROM event
        WHERE lane_id = l.id AND seq > l.done_seq AND state = 'WAITING' ORDER BY seq, take LIMIT $2
    ) w
) e
WHERE l.integration_id = $1 ORDER BY l.strategy_id LIMIT $3
"""

COUNT_IN_TROUBLE: Final = """
SELECT (SELECT count(*) FROM integration WHERE state = 'PAUSED') AS paused,
    (SELECT count(*) FROM integration WHERE failures > 0) AS failing
"""

# those that were paused last, and those that have failed for the longest time
IDS_IN_TROUBLE: Final = """
(SELECT id FROM integration WHERE state = 'PAUSED' ORDER BY changed DESC, id DESC LIMIT $1)
UNION
(SELECT id FROM integration WHERE failures > 0 ORDER BY failing_since, id LIMIT $1)
"""

INTEGRATIONS_BY_ID: Final = f"SELECT {_FIELDS} FROM integration i WHERE i.id = ANY($1::uuid[])"

_PAGE: Final = """AND ($1::timestamptz IS NULL OR (i.changed, i.id) < ($1, $2::uuid))
ORDER BY i.changed DESC, i.id DESC LIMIT $3"""

INTEGRATIONS: Final = f"SELECT {_FIELDS} FROM integration i WHERE true {_PAGE}"
INTEGRATIONS_BY_STATE: Final = f"SELECT {_FIELDS} FROM integration i WHERE i.state = $4 {_PAGE}"
INTEGRATIONS_BY_USER: Final = f"""
SELECT {_FIELDS} FROM integration i
WHERE lower(i.user_email) = lower($4) AND ($5::text IS NULL OR i.state = $5) {_PAGE}
"""

# $2: the number of events of each integration that are examined
LAST_FAILURES: Final = """
SELECT r.id AS integration_id, f.* FROM unnest($1::uuid[]) AS r (id) CROSS JOIN LATERAL (
    SELECT e.id, e.type, e.attempt FROM (
        SELECT id, type, log -> -1 AS attempt FROM event
        WHERE integration_id = r.id ORDER BY created DESC, id DESC LIMIT $2
    ) e
    WHERE e.attempt ->> 'outcome' IN ('FAILED', 'RETRY') ORDER BY e.attempt ->> 'at' DESC LIMIT 1
) f
"""

ENDPOINT: Final = "SELECT id, name, description, image_url, url, headers FROM integration WHERE id = $1"

_IS_OVERTAKEN: Final = f"""EXISTS (
        SELECT FROM event n WHERE n.lane_id = e.lane_id AND (n.seq, n.take) > (e.seq, e.take)
            AND (n.tries > 0 OR n.state = 'WAITING') AND (n.type IN ({_texts(SIGNALS)}) OR l.strategy_id = '')
    ) AS is_overtaken"""

_DELIVERY: Final = f"""e.id, e.integration_id, e.type, e.timestamp_ms, e.data, e.state, e.created, e.expires, e.log,
    e.replays, l.strategy_id, l.is_enabled, {_IS_OVERTAKEN}"""

_EXAMINED: Final = """
    FROM event WHERE integration_id = $1
        AND ($2::timestamptz IS NULL OR created >= $2)
        AND ($3::timestamptz IS NULL OR (created, id) < ($3, $4::uuid))
    ORDER BY created DESC, id DESC"""

# the newest $5 events before the event at ($3, $4) are examined
DELIVERIES: Final = f"""
SELECT {_DELIVERY}
FROM (SELECT * {_EXAMINED} LIMIT $5) e JOIN lane l ON l.id = e.lane_id
WHERE ($6::text IS NULL OR e.state = $6) AND ($7::text IS NULL OR e.type = $7)
    AND ($8::text IS NULL OR l.strategy_id = $8)
ORDER BY e.created DESC, e.id DESC LIMIT $9
"""

LAST_EXAMINED: Final = f"SELECT created, id {_EXAMINED} OFFSET $5 - 1 LIMIT 1"

DELIVERY: Final = f"""
SELECT {_DELIVERY} FROM event e JOIN lane l ON l.id = e.lane_id WHERE e.id = $1 AND e.integration_id = $2
"""

# an expired REOPEN was replaced by a CLOSE, which takes part in its place
IS_REPLACED: Final = "({event}.type = 'SIGNAL_REOPEN' AND {event}.state = 'EXPIRED')"


def _has_failed(event: str) -> str:
    return f"""({event}.state = ANY($3::text[]) AND {event}.created >= $1 AND {queued_at(event)} <= $2)"""


LANES_WITH_FAILED: Final = f"""
SELECT DISTINCT e.lane_id FROM event e WHERE e.integration_id = $4 AND {_has_failed("e")}
"""

LOCK_LANES: Final = "SELECT FROM lane WHERE id = ANY($1::bigint[]) ORDER BY id FOR NO KEY UPDATE"

# $1 since, $2 until, $3 states, $4 integration, $5 lanes, $6 maximum of replays. Of each lane the last event counts that
# was sent or waits, and is not sent again with the others: no event before it can be sent in order.
FAILED: Final = f"""
WITH l AS MATERIALIZED (
    SELECT lane.id, lane.strategy_id, lane.is_enabled, b.seq, b.take
    FROM lane LEFT JOIN LATERAL (
        SELECT n.seq, n.take FROM event n
        WHERE n.lane_id = lane.id AND (n.tries > 0 OR n.state = 'WAITING')
            AND (n.type IN ({_texts(SIGNALS)}) OR lane.strategy_id = '')
            AND NOT ({_has_failed("n")} AND n.replays < $6 AND NOT {IS_REPLACED.format(event="n")})
        ORDER BY n.seq DESC, n.take DESC LIMIT 1
    ) b ON true
    WHERE lane.id = ANY($5::bigint[])
)
SELECT e.id, e.type, e.state, e.lane_id, e.replays, l.strategy_id, l.is_enabled,
    coalesce((l.seq, l.take) > (e.seq, e.take), false) AS is_overtaken,
    {IS_REPLACED.format(event="e")} AS is_replaced
FROM event e JOIN l ON l.id = e.lane_id
WHERE e.integration_id = $4 AND {_has_failed("e")}
ORDER BY e.lane_id, e.seq, e.take
"""

# the lanes whose first event waits for its next attempt
RETRY_NOW: Final = """
UPDATE lane SET due = '-infinity' WHERE id IN (
    SELECT id FROM lane
    WHERE integration_id = $1 AND last_seq > done_seq AND NOT is_held AND due > clock_timestamp()
    ORDER BY id FOR NO KEY UPDATE
) RETURNING id
"""

LOCK_INTEGRATION: Final = "SELECT id FROM integration WHERE id = $1 FOR NO KEY UPDATE"

STATEMENTS: Final = {
    BACKLOG: "operators_backlog",
    LAST_FAILURES: "operators_last_failures",
    DELIVERIES: "operators_deliveries",
    FAILED: "operators_failed_events",
}
"""Names of the statements that take longest, for metrics."""
