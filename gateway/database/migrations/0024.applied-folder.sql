-- The folder that was compared last and left nothing to write: its digest, and how many versions there were then. While
-- both are the same nothing has to be read again, as versions are only ever added.
CREATE TABLE applied_folder (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    digest        bytea   NOT NULL CHECK (octet_length(digest) = 32),
    versions      bigint  NOT NULL,
    applied_at_ms bigint  NOT NULL
);
