-- A CLOSE of an earlier position must not close the open one: these two tell whether the CLOSE's position is an earlier one.
ALTER TABLE position ADD COLUMN signalled_ms bigint;
CREATE INDEX trade_that_closed ON trade (account_id, strategy_id, position_id) WHERE action = 'CLOSE';
