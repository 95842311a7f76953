"""The grants, one file each: what it loads, what it decides on Authlib's core, what it writes."""

from gateway.oauth.grants import authorization_code, client_credentials, refresh_token

GRANTS = {
    "client_credentials": client_credentials,
    "authorization_code": authorization_code,
    "refresh_token": refresh_token,
}
WITHOUT_ROWS = frozenset({"client_credentials"})  # load and keep nothing, so no transaction is made for them
CORE_GRANTS = tuple((grant.CoreGrant, grant.EXTENSIONS) for grant in GRANTS.values())
