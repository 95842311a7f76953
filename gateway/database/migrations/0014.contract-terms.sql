-- What every program can read of a contract version, also one that does not know the terms in its body: whose it is,
-- when it starts and ends, and in which currency. Homes that hold contracts of before have no `contract.effective`
-- events either and are refused.
ALTER TABLE document
    ADD COLUMN starts_ms bigint,                -- of a contract: its term, [starts, ends)
    ADD COLUMN ends_ms   bigint,
    ADD COLUMN currency  text;
ALTER TABLE document ADD CONSTRAINT document_of_a_contract_has_its_term CHECK (
    CASE WHEN kind = 'contract'
        THEN partner_id IS NOT NULL AND currency IS NOT NULL AND starts_ms IS NOT NULL AND ends_ms IS NOT NULL
            AND starts_ms < ends_ms
        ELSE starts_ms IS NULL AND ends_ms IS NULL AND currency IS NULL END);

-- Settled days refer to a version by its number and to a partner's one contract, so neither is ever ambiguous.
CREATE FUNCTION contract_versions_rise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM document d WHERE d.kind = 'contract' AND d.partner_id = new.partner_id AND d.id <> new.id)
        OR EXISTS (SELECT FROM document d WHERE d.kind = 'contract' AND d.id = new.id AND d.partner_id <> new.partner_id)
    THEN
        RAISE EXCEPTION 'a partner has one contract id for good, and a contract id one partner'
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF EXISTS (SELECT FROM document d WHERE d.kind = 'contract' AND d.id = new.id AND d.version >= new.version) THEN
        RAISE EXCEPTION 'the version numbers of a contract rise' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER document_contract_versions_rise BEFORE INSERT ON document
    FOR EACH ROW WHEN (new.kind = 'contract') EXECUTE FUNCTION contract_versions_rise();
CREATE INDEX document_of_contract_partner ON document (partner_id, version) WHERE kind = 'contract';
