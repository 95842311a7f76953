"""Who may do what in the database: `owner` owns everything, `gateway` serves and can neither change nor delete history.

`migrate` makes both roles and says their rights again each time, so that a new table has them. What is append-only is
read off the tables themselves: every one whose UPDATE or DELETE the trigger `never_changed` refuses. The right is
missing too, so that no bug, and nobody who speaks through the gateway, can disable the one and use the other.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

OWNER, GATEWAY = "owner", "gateway"  # written out below, so that the statements can be read

# `owner` never logs in. The user that migrates becomes a member of both: with one address for everything the gateway
# logs in as that user and puts its rights down at once.
ROLES = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'owner') THEN
        CREATE ROLE owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gateway') THEN
        CREATE ROLE gateway LOGIN;
    END IF;
    IF NOT pg_has_role(current_user, 'owner', 'USAGE') THEN
        GRANT owner TO CURRENT_USER;
    END IF;
    IF NOT pg_has_role(current_user, 'gateway', 'USAGE') THEN
        GRANT gateway TO CURRENT_USER;
    END IF;
END $$
"""

OWNERSHIP = """
DO $$
DECLARE
    change text;
BEGIN
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO owner', current_database());
    GRANT CREATE, USAGE ON SCHEMA public, sandbox_bank TO owner;
    FOR change IN
        SELECT format('ALTER TABLE %s OWNER TO owner', oid::regclass) FROM pg_class
        WHERE relnamespace IN ('public'::regnamespace, 'sandbox_bank'::regnamespace) AND relkind IN ('r', 'p', 'v')
          AND relowner <> 'owner'::regrole
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO owner', oid::regprocedure) FROM pg_proc
        WHERE pronamespace IN ('public'::regnamespace, 'sandbox_bank'::regnamespace)
          AND proowner <> 'owner'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = pg_proc.oid
                          AND d.deptype = 'e')
    LOOP
        EXECUTE change;
    END LOOP;
END $$
"""

# Triggers carry what they refuse as bits: 8 DELETE, 16 UPDATE (pg_trigger.h). Partitions of such a table are meant too.
GRANTS = """
DO $$
DECLARE
    closed record;
BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO gateway', current_database());
    GRANT USAGE ON SCHEMA public, sandbox_bank TO gateway;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, sandbox_bank TO gateway;
    REVOKE TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA public, sandbox_bank FROM gateway;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public, sandbox_bank TO gateway;
    FOR closed IN
        WITH RECURSIVE append_only (oid, kind) AS (
            SELECT tgrelid, tgtype FROM pg_trigger WHERE tgfoid = 'never_changed()'::regprocedure
            UNION
            SELECT inhrelid, kind FROM pg_inherits JOIN append_only ON inhparent = append_only.oid)
        SELECT oid::regclass AS name, concat_ws(', ', CASE WHEN kind & 8 > 0 THEN 'DELETE' END,
                                                CASE WHEN kind & 16 > 0 THEN 'UPDATE' END) AS rights FROM append_only
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM gateway', closed.rights, closed.name);
    END LOOP;
    FOR closed IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
          AND (starts_with(relname, '_yoyo') OR relname = 'yoyo_lock')
    LOOP
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %s FROM gateway', closed.name);
    END LOOP;
    REVOKE EXECUTE ON FUNCTION drop_partition(regclass, regclass) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION drop_partition(regclass, regclass) TO gateway;
END $$
"""


def membership(user: str) -> str:
    """For the user that the gateway logs in as, where it is neither of the two nor the one that migrates."""
    name = user.replace('"', '""')
    return f"""
DO $$
BEGIN
    IF NOT pg_has_role($user${user}$user$, 'gateway', 'USAGE') THEN
        GRANT gateway TO "{name}";
    END IF;
END $$
"""


def as_gateway(url: str) -> str:
    """The address whose sessions have the rights of `gateway` and no others, whoever logs in; an address that names
    a role keeps it (measurements and tests that look behind the gateway)."""
    parts = urlsplit(url)
    query = {"role": GATEWAY} | dict(parse_qsl(parts.query))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def logged_in_as(url: str, user: str) -> str:
    """The same database for another user that needs no password (the embedded cluster trusts its socket)."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"{user}:@{place}", parts.path, parts.query, ""))
