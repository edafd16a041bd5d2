-- Whoever changes anything of an account counts this up, so what was read of it and is still of this version is
-- still so: nobody need hold the row locked between reading and writing.
ALTER TABLE account ADD COLUMN version bigint NOT NULL DEFAULT 0;
