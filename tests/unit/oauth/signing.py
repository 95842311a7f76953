"""A partner's side of the signatures, written with PyJWT: another stack than the one that checks them."""

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.partners.partner import App, AppKey, KeyState

ISSUER = "http://gateway.test"
NOW_S = 1_790_000_000
KEYS: dict[str, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "PS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
_TO_JWK: dict[str, Any] = {"ES256": ECAlgorithm, "PS256": RSAAlgorithm, "EdDSA": OKPAlgorithm}


def public_jwk(alg: str) -> dict[str, Any]:
    jwk = _TO_JWK[alg].to_jwk(KEYS[alg].public_key(), as_dict=True)
    return {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}


def proof(*, alg: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    said = {"jti": "j1", "htm": "POST", "htu": f"{ISSUER}/oauth/token", "iat": NOW_S, **claims}
    head = {"typ": "dpop+jwt", "jwk": public_jwk(alg), **(header or {})}
    return jwt.encode(_present(said), KEYS[alg], algorithm=alg, headers=head)


def assertion(*, alg: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    said = {"iss": "parkco-app", "sub": "parkco-app", "aud": ISSUER, "jti": "a1", "exp": NOW_S + 60, **claims}
    return jwt.encode(_present(said), KEYS[alg], algorithm=alg, headers=header if header is not None else {"kid": alg})


def app(*, state: KeyState = KeyState.ACTIVE, auth_method: str = "private_key_jwt") -> App:
    keys = tuple(AppKey(alg, {**public_jwk(alg), "kid": alg, "use": "sig"}, state, "") for alg in KEYS)
    scopes = frozenset(("accounts", "payments", "parking"))
    return App("parkco-app", "parkco", "App", auth_method, ("https://parkco.example/cb?x=1",), scopes, keys)


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
