-- What the gateway may not do itself, as it owns nothing: the owner's functions do it, and check what they are asked.

-- For tables of things that expire. `gateway/database/roles.py` says who may call it.
CREATE FUNCTION drop_partition(parent regclass, partition regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = parent AND inhrelid = partition) THEN
        RAISE EXCEPTION '% is no partition of %', partition, parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = parent AND tgfoid = 'public.never_changed()'::regprocedure) THEN
        RAISE EXCEPTION '% is kept for good', parent USING ERRCODE = 'restrict_violation';
    END IF;
    EXECUTE format('DROP TABLE %s', partition);
END $$;
