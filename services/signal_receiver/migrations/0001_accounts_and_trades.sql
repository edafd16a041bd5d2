-- No table has a foreign key to account: each inserted row would lock the account's row once more.
CREATE TABLE account (
    id text PRIMARY KEY,
    token_digest bytea NOT NULL UNIQUE,
    owner text NOT NULL,
    header_name text,
    header_digest bytea CHECK ((header_name IS NULL) = (header_digest IS NULL)),
    webhook_secret text,
    funds numeric NOT NULL CHECK (funds >= 0),
    held numeric NOT NULL DEFAULT 0 CHECK (held >= 0)
) WITH (fillfactor = 70);

-- A strategy has at most one open position.
CREATE TABLE position (
    account_id text NOT NULL,
    strategy_id text NOT NULL,
    position_id text NOT NULL,
    ticker text NOT NULL,
    direction text NOT NULL,
    quantity numeric NOT NULL CHECK (quantity > 0),
    price numeric NOT NULL CHECK (price > 0),
    margin numeric NOT NULL CHECK (margin > 0),
    opened timestamptz NOT NULL,
    PRIMARY KEY (account_id, strategy_id)
);

CREATE TABLE trade (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text NOT NULL,
    strategy_id text NOT NULL,
    position_id text NOT NULL,
    action text NOT NULL,
    ticker text NOT NULL,
    direction text NOT NULL,
    quantity numeric NOT NULL,
    price numeric NOT NULL,
    profit numeric CHECK ((profit IS NULL) = (action = 'OPEN')),
    at timestamptz NOT NULL
);
CREATE INDEX trade_of_account ON trade (account_id, id);

-- The outcome of each event. Without a type it is a 200; without `until` it is stored without a limit.
CREATE TABLE inbox (
    account_id text NOT NULL,
    key bytea NOT NULL CHECK (length(key) = 32),
    type text,
    until timestamptz,
    PRIMARY KEY (account_id, key)
);
CREATE INDEX inbox_until ON inbox (until) WHERE until IS NOT NULL;

CREATE TABLE price (
    ticker text PRIMARY KEY,
    price numeric NOT NULL CHECK (price > 0),
    at timestamptz NOT NULL
) WITH (fillfactor = 70);
