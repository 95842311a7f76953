"""Metadata of the authorization server (RFC 8414): derived from what is configured, only registered member names."""

from typing import Any

from gateway.oauth.authorization_request import DETAIL_TYPES
from gateway.oauth.signature import ALGORITHMS
from gateway.oauth.steps import GRANT_TYPES
from gateway.policies.policy import SCOPES

AUTH_METHODS = ["private_key_jwt"]


def metadata(issuer: str, *, certificates: bool) -> dict[str, Any]:
    """`certificates`: whether a proxy tells us client certificates, so that tokens can be bound to them (RFC 8705)."""
    algorithms = list(ALGORITHMS)
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "pushed_authorization_request_endpoint": f"{issuer}/oauth/par",
        "require_pushed_authorization_requests": True,
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "scopes_supported": sorted(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "code_challenge_methods_supported": ["S256"],
        "dpop_signing_alg_values_supported": algorithms,
        "tls_client_certificate_bound_access_tokens": certificates,
        "authorization_response_iss_parameter_supported": True,
        "authorization_details_types_supported": list(DETAIL_TYPES),
        "ui_locales_supported": ["en", "zh"],
        "service_documentation": f"{issuer}/portal",
    }
