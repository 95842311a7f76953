-- Keys of statements are for statements, published for good, and say until when they signed.

ALTER TABLE bank_key ADD COLUMN retired_at_ms bigint; -- from then on it signs nothing more; it may still be checked
ALTER TABLE bank_key ADD CONSTRAINT bank_key_retired_has_its_moment CHECK (
    (state IN ('next', 'signing') AND retired_at_ms IS NULL) OR (state IN ('published', 'retired') AND retired_at_ms IS NOT NULL)
) NOT VALID; -- rows of before have no moment
CREATE UNIQUE INDEX bank_key_one_next ON bank_key (purpose) WHERE state = 'next';

-- Every statement ever issued is checked against its key: none goes, none becomes another one.
CREATE FUNCTION statement_key_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (new.kid, new.purpose, new.alg, new.public_jwk, new.private_sealed, new.created_at_ms)
        IS DISTINCT FROM (old.kid, old.purpose, old.alg, old.public_jwk, old.private_sealed, old.created_at_ms) THEN
        RAISE EXCEPTION 'a key of statements stays as it is: statements of before name it'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER bank_key_statement_stays BEFORE UPDATE OR DELETE ON bank_key
    FOR EACH ROW WHEN (old.purpose = 'statement') EXECUTE FUNCTION statement_key_stays();
