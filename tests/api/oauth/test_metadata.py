"""What a client may read before it is known."""

import httpx
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from tests.api.oauth.conftest import Server
from tests.unit.oauth.signing import ISSUER

# the registry of RFC 8414 §7.1.1 and the documents that add to it: 9126, 8705, 9449, 9207, 9396
REGISTERED = set(AuthorizationServerMetadata.REGISTRY_KEYS) | {
    "pushed_authorization_request_endpoint", "require_pushed_authorization_requests",
    "tls_client_certificate_bound_access_tokens", "dpop_signing_alg_values_supported",
    "authorization_response_iss_parameter_supported", "authorization_details_types_supported",
}  # fmt: skip


async def test_the_metadata_holds_registered_members_only(server: Server) -> None:
    response = await server.http.get("/.well-known/oauth-authorization-server")
    said = response.json()
    assert said["issuer"] == ISSUER
    assert said.keys() <= REGISTERED
    assert said["require_pushed_authorization_requests"] is True
    assert said["tls_client_certificate_bound_access_tokens"] is True
    assert "none" not in said["token_endpoint_auth_signing_alg_values_supported"]


async def test_the_metadata_passes_authlibs_own_reading(server: Server) -> None:
    said = (await server.http.get("/.well-known/oauth-authorization-server")).json()
    over_tls = {
        name: value.replace("http://", "https://") if isinstance(value, str) else value for name, value in said.items()
    }
    AuthorizationServerMetadata(over_tls).validate()


async def test_the_endpoints_of_the_metadata_are_there(server: Server) -> None:
    said = (await server.http.get("/.well-known/oauth-authorization-server")).json()
    for name in ("token", "revocation", "introspection", "pushed_authorization_request"):
        response: httpx.Response = await server.http.post(said[f"{name}_endpoint"])
        assert response.status_code in (400, 401), name
    assert (await server.http.get(said["authorization_endpoint"])).status_code == 400


async def test_the_published_keys_are_public_and_named(server: Server) -> None:
    keys = (await server.http.get("/oauth/jwks")).json()["keys"]
    assert keys
    for key in keys:
        assert key.keys() <= {"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"}
        assert {"kid", "use", "alg"} <= key.keys()
