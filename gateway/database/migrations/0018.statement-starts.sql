-- A statement's closing says of every known version of the contract when it starts: a program that cannot read the
-- document must know from when on it needs it. What was calculated before does not say so, and is not gone on with.
ALTER TABLE statement ADD CONSTRAINT statement_closing_tells_starts CHECK (
    closing IS NULL OR NOT jsonb_path_exists(closing, '$.versions[*] ? (!exists(@.start_ms))'));
