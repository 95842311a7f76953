"""A partner's client: what any partner would write with PyJWT and httpx. The demo, tests and bench call with it."""

import json
import secrets
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
from jwt.algorithms import get_default_algorithms

ASSERTION_LIFETIME_S = 60
TOKEN_MARGIN_S = 20  # a token this close to its end is replaced before use
_OB_CLAIMS = "http://openbanking.org.uk/"


class CallFailed(Exception):
    """An answer that the journey did not expect; holds status and body for the reader."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        super().__init__(
            f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}"
        )


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """One of the app's keys: JWK, the algorithm it signs with, and its public half."""

    kid: str
    alg: str
    key: Any
    public: Mapping[str, str]


@dataclass(slots=True)
class Token:
    """An access token and when it ends (seconds, our clock)."""

    value: str
    ends_s: float
    refresh: str | None = None


@dataclass(slots=True)
class PartnerClient:
    """Signs every call: DPoP (RFC 9449) with ES256, client assertions (RFC 7523), detached JWS with PS256."""

    http: httpx.AsyncClient
    credentials: Mapping[str, Any]
    now_s: Callable[[], float] = time.time  # the partner's own clock
    _tokens: dict[str, Token] = field(default_factory=dict)
    _keys: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys = {key.alg: key for key in map(_private_key, self.credentials["private_jwks"]["keys"])}

    @property
    def issuer(self) -> str:
        return str(self.credentials["issuer"])

    @property
    def client_id(self) -> str:
        return str(self.credentials["client_id"])

    # --- tokens ------------------------------------------------------------------------------------------------------
    async def token(self, scope: str | None = None) -> Token:
        """The app's own token (client_credentials), kept until shortly before its end."""
        wanted = scope or " ".join(self.credentials["scopes"])
        kept = self._tokens.get(wanted)
        if kept is None or kept.ends_s - TOKEN_MARGIN_S < self.now_s():
            kept = self._tokens[wanted] = await self.grant(grant_type="client_credentials", scope=wanted)
        return kept

    async def grant(self, **form: str) -> Token:
        """One call of the token endpoint, with a fresh assertion and proof. Raises CallFailed."""
        url = f"{self.issuer}/oauth/token"
        response = await self.http.post(
            url, data={**form, **self.assertion()}, headers={"DPoP": self.proof("POST", url)}
        )
        if response.status_code != 200:
            raise CallFailed(response)
        answer = response.json()
        return Token(answer["access_token"], self.now_s() + answer["expires_in"], answer.get("refresh_token"))

    def assertion(self) -> dict[str, str]:
        """private_key_jwt: who we are, once."""
        key, now = self._keys["ES256"], int(self.now_s())
        claims = {
            "iss": self.client_id, "sub": self.client_id, "aud": self.issuer, "jti": uuid.uuid4().hex,
            "iat": now, "exp": now + ASSERTION_LIFETIME_S,
        }  # fmt: skip
        return {
            "client_id": self.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(claims, key.key, algorithm=key.alg, headers={"kid": key.kid}),
        }

    def proof(self, method: str, url: str, *, access_token: str | None = None) -> str:
        """A DPoP proof for one request."""
        key = self._keys["ES256"]
        claims = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(self.now_s())}
        if access_token is not None:
            claims["ath"] = urlsafe_b64encode(sha256(access_token.encode()).digest()).rstrip(b"=").decode()
        return jwt.encode(claims, key.key, algorithm=key.alg, headers={"typ": "dpop+jwt", "jwk": dict(key.public)})

    # --- a customer's consent -----------------------------------------------------------------------------------------
    async def push(self, consent_id: str, *, kind: str, scope: str) -> tuple[str, str]:
        """PAR (RFC 9126) with PKCE (RFC 7636): the address for the customer's browser, and the code verifier."""
        verifier = secrets.token_urlsafe(48)
        url = f"{self.issuer}/oauth/par"
        form = {
            "response_type": "code",
            "redirect_uri": self.credentials["redirect_uris"][0],
            "scope": scope,
            "state": secrets.token_urlsafe(12),
            "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "authorization_details": json.dumps([{"type": kind, "consent_id": consent_id}]),
        }
        response = await self.http.post(
            url, data={**form, **self.assertion()}, headers={"DPoP": self.proof("POST", url)}
        )
        if response.status_code != 201:
            raise CallFailed(response)
        query = urlencode({"client_id": self.client_id, "request_uri": response.json()["request_uri"]})
        return f"{self.issuer}/oauth/authorize?{query}", verifier

    async def exchange(self, callback: str, verifier: str) -> Token:
        """The redirect that came back → a token bound to the consent. Checks `iss` (RFC 9207)."""
        fields = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
        if fields.get("iss") != self.issuer or "code" not in fields:
            raise ValueError(f"the redirect does not carry a code of {self.issuer}: {sorted(fields)}")
        return await self.grant(
            grant_type="authorization_code",
            code=fields["code"],
            redirect_uri=self.credentials["redirect_uris"][0],
            code_verifier=verifier,
        )

    async def approve(self, consent_id: str, *, kind: str, scope: str, **choice: Any) -> Token:
        """Sandbox: the consent approved without a browser, then the code flow as ever."""
        done = await self.http.post(f"{self.issuer}/sandbox/v1/consents/{consent_id}/authorisation", json=choice)
        if done.status_code >= 300:
            raise CallFailed(done)
        address, verifier = await self.push(consent_id, kind=kind, scope=scope)
        response = await self.http.get(address)
        if response.status_code != 303:
            raise CallFailed(response)
        return await self.exchange(response.headers["location"], verifier)

    # --- calls -------------------------------------------------------------------------------------------------------
    async def call(
        self,
        method: str,
        path: str,
        *,
        token: Token | None = None,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        sign: str = "",
    ) -> httpx.Response:
        """One signed call. `body` is sent as JSON; `key` is the idempotency key (made for a POST where none is given);
        `sign="jws"` adds the detached signature that payments ask for."""
        token = token or await self.token()
        url = self.issuer + path
        sent = {
            "Authorization": f"DPoP {token.value}",
            "DPoP": self.proof(method, url.partition("?")[0], access_token=token.value),
            "x-fapi-interaction-id": str(uuid.uuid4()),
        }
        if method == "POST":
            sent["x-idempotency-key"] = key or uuid.uuid4().hex
        if body is not None:
            content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        if sign:
            sent["x-jws-signature"] = self.detached_signature(content or b"")
        return await self.http.request(method, url, content=content, headers={**sent, **(headers or {})})

    def detached_signature(self, content: bytes) -> str:
        """RFC 7515 Appendix F, with the three Open Banking claims in the protected header."""
        key = self._keys["PS256"]
        claims = {
            f"{_OB_CLAIMS}iat": int(self.now_s()),
            f"{_OB_CLAIMS}iss": self.client_id,
            f"{_OB_CLAIMS}tan": urlsplit(self.issuer).hostname or "",
        }
        header = {"alg": key.alg, "kid": key.kid, **claims, "crit": list(claims)}
        head = _b64(json.dumps(header, separators=(",", ":")).encode())
        signature = get_default_algorithms()[key.alg].sign(f"{head}.{_b64(content)}".encode(), key.key)
        return f"{head}..{_b64(signature)}"


def _private_key(jwk: Mapping[str, str]) -> PrivateKey:
    alg = jwk.get("alg") or ("PS256" if jwk["kty"] == "RSA" else "ES256")
    public_names = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}[jwk["kty"]]
    key = jwt.PyJWK(dict(jwk), algorithm=alg).key
    return PrivateKey(jwk["kid"], alg, key, {name: jwk[name] for name in public_names})


def _b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
