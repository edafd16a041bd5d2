-- When the caller released the quote. A service of an earlier version does not check this column: the second
-- constraint prevents it from executing a released quote. NOT VALID: no row has been released, so the table need not be read.
ALTER TABLE quote ADD COLUMN released timestamptz;
ALTER TABLE quote ADD CONSTRAINT quote_released_before_expiry CHECK (released < expires) NOT VALID;
ALTER TABLE quote ADD CONSTRAINT quote_released_or_executed CHECK (released IS NULL OR executed IS NULL) NOT VALID;

ALTER TABLE quote_count ADD COLUMN settled_released bigint NOT NULL DEFAULT 0;
ALTER TABLE quote_count ADD COLUMN released bigint NOT NULL DEFAULT 0;
