-- Agreed documents that were withdrawn, one settled set of terms a version, and the people of bank operations.

ALTER TABLE document ADD COLUMN withdrawn boolean NOT NULL DEFAULT false; -- this version says: no longer agreed

CREATE FUNCTION contract_never_withdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a contract version that was applied stays: settled days refer to it'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER document_contract_stays BEFORE INSERT OR UPDATE ON document
    FOR EACH ROW WHEN (new.kind = 'contract' AND new.withdrawn) EXECUTE FUNCTION contract_never_withdrawn();
CREATE TRIGGER document_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON document
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE operator (                       -- a person of bank operations; nobody checks what they made
    id            text   PRIMARY KEY CHECK (id ~ '^[a-z][a-z0-9-]{1,39}$'),
    name          text   NOT NULL,
    role          text   NOT NULL CHECK (role IN ('maker', 'checker')),
    key_sha256    bytea  NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    state         text   NOT NULL CHECK (state IN ('active', 'revoked')),
    changed_at_ms bigint NOT NULL
);
