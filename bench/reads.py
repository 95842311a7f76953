"""The balance reads: a certificate-bound bearer and a DPoP token beside Envoy verifying the same token."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from bench import load
from bench.compare import Comparison, RunUnusable, Side, compare
from bench.envoy import BALANCE_PATH, EnvoyPeer, Verifying, envoy_serving
from bench.gateway import CERTIFICATE_HEADER, Gateway, ProofSmith, partner, partner_with_certificate
from gateway.demo.client import CallFailed, PartnerClient

AISP = "/open-banking/v4.0/aisp"
PARTNER = "parkco"
PERMISSIONS = ("ReadAccountsBasic", "ReadBalances")
INTERACTION = "93bac548-d2de-4546-b106-880a5018460d"
PROOFS_A_TURN = 24_000  # more than a turn can spend: a proof costs the server more than 83 µs, and a turn has 2 s
CONNECTIONS = load.DEFAULT_CONNECTIONS


@dataclass(frozen=True, slots=True)
class Reader:
    """Everything one balance read needs."""

    path: str
    token: str
    headers: tuple[tuple[str, str], ...]


async def reader_of(client: PartnerClient, headers: Mapping[str, str]) -> Reader:
    """A consent made, approved without a browser, and exchanged; then the first account's balances."""
    body = {"Data": {"Permissions": list(PERMISSIONS)}, "Risk": {}}
    async with client.http:
        made = await _expect(client.call("POST", f"{AISP}/account-access-consents", body=body), 201)
        token = await client.approve(made["Data"]["ConsentId"], kind="account-access-consent", scope="accounts")
        accounts = await _expect(client.call("GET", f"{AISP}/accounts", token=token), 200)
    account_id = accounts["Data"]["Account"][0]["AccountId"]
    return Reader(f"{AISP}/accounts/{account_id}/balances", token.value, tuple(headers.items()))


async def _expect(call: Any, status: int) -> Any:
    response: httpx.Response = await call
    if response.status_code != status:
        raise CallFailed(response)
    return response.json()


def cached_read(gateway: Gateway, *, core: int, folder: Path) -> Comparison:
    """The same bearer again and again, as a partner's server sends it: both sides know the token already."""
    client, certificate = partner_with_certificate(gateway, PARTNER)
    reader = asyncio.run(reader_of(client, {CERTIFICATE_HEADER: certificate}))
    with envoy_serving(_verifying(gateway, reader.token, cached=True), on=core, folder=folder) as peer:
        request = _get(reader, gateway.port, "Bearer", reader.headers)
        ours = Side("gateway, bearer", load.Target("127.0.0.1", gateway.port), gateway.process, _same(request))
        return compare(ours, _envoy_side(peer, reader))


def dpop_read(gateway: Gateway, *, core: int, folder: Path) -> Comparison:
    """A new proof in every request; Envoy has no DPoP, so it verifies the one token anew each time."""
    client = partner(gateway, PARTNER)
    reader = asyncio.run(reader_of(client, {}))
    smith = ProofSmith(
        dict(client.credentials), method="GET", url=client.issuer + reader.path, access_token=reader.token
    )

    def scripts() -> Sequence[load.Script]:
        each = PROOFS_A_TURN // CONNECTIONS
        return [
            load.spend([_get(reader, gateway.port, "DPoP", [("dpop", smith.proof())]) for _ in range(each)])
            for _ in range(CONNECTIONS)
        ]

    with envoy_serving(_verifying(gateway, reader.token, cached=False), on=core, folder=folder) as peer:
        ours = Side("gateway, DPoP", load.Target("127.0.0.1", gateway.port), gateway.process, scripts)
        return compare(ours, _envoy_side(peer, reader))


def _envoy_side(peer: EnvoyPeer, reader: Reader) -> Side:
    request = _get(Reader(BALANCE_PATH, reader.token, ()), peer.port, "Bearer", reader.headers)
    return Side("Envoy", load.Target("127.0.0.1", peer.port), peer.process, _same(request))


def _verifying(gateway: Gateway, token: str, *, cached: bool) -> Verifying:
    """Envoy gets the gateway's published keys, and takes only this issuer and audience."""
    metadata = httpx.get(f"{gateway.url}/.well-known/oauth-authorization-server").raise_for_status().json()
    claims = jwt.decode(token, options={"verify_signature": False})
    audience = claims["aud"] if isinstance(claims["aud"], str) else claims["aud"][0]
    keys = httpx.get(metadata["jwks_uri"]).raise_for_status().json()
    if jwt.get_unverified_header(token)["alg"] != "ES256":
        raise RunUnusable("The access token is not signed with ES256; the comparison was made for that.")
    return Verifying(keys, claims["iss"], audience, cached)


def _get(reader: Reader, port: int, scheme: str, more: Sequence[tuple[str, str]]) -> bytes:
    headers = [("authorization", f"{scheme} {reader.token}"), ("x-fapi-interaction-id", INTERACTION), *more]
    return load.get(reader.path, f"127.0.0.1:{port}", headers)


def _same(request: bytes) -> Any:
    return lambda: [load.repeat(request) for _ in range(CONNECTIONS)]
