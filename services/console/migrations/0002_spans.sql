-- One row for each span that a service of the chain exported. Rows are inserted and deleted, never updated.
CREATE TABLE span (
    -- in the order of arrival: retention deletes the lowest numbers
    id bigint GENERATED ALWAYS AS IDENTITY,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    parent_id text,
    service text NOT NULL,
    name text NOT NULL,
    start_ns bigint NOT NULL,
    duration_ns bigint NOT NULL,
    is_error boolean NOT NULL,
    attributes jsonb NOT NULL,
    -- trace id and span id of each
    links jsonb NOT NULL,
    l1p_trace_id text,
    quote_uuid text,
    error_id text,
    caller text,
    received timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- a sender that got no answer sends a span again
    PRIMARY KEY (trace_id, span_id)
);
CREATE UNIQUE INDEX span_by_arrival ON span (id);
CREATE INDEX span_by_l1p_trace_id ON span (l1p_trace_id);
CREATE INDEX span_by_quote ON span (quote_uuid) WHERE quote_uuid IS NOT NULL;
CREATE INDEX span_by_start ON span (start_ns);
CREATE INDEX span_failed ON span (start_ns) WHERE is_error;
