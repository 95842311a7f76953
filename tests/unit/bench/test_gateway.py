"""The bench's partner makes proofs and certificates that an independent library accepts."""

import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import unquote

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bench.gateway import ProofSmith, escaped_certificate

URL = "http://127.0.0.1:8080/open-banking/v4.0/aisp/accounts/1/balances"


def _smith() -> ProofSmith:
    jwk = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
    return ProofSmith({"private_jwks": {"keys": [jwk]}}, method="GET", url=URL, access_token="token")


def test_a_proof_verifies_with_the_key_it_shows_and_names_request_and_token() -> None:
    proof = _smith().proof()
    header = jwt.get_unverified_header(proof)
    assert header["typ"] == "dpop+jwt"
    assert "d" not in header["jwk"]
    claims = jwt.decode(proof, jwt.PyJWK(header["jwk"], algorithm="ES256").key, algorithms=["ES256"])
    digest = urlsafe_b64encode(sha256(b"token").digest()).rstrip(b"=").decode()
    assert (claims["htm"], claims["htu"], claims["ath"]) == ("GET", URL, digest)


def test_no_two_proofs_have_the_same_id() -> None:
    smith = _smith()
    ids = {jwt.decode(smith.proof(), options={"verify_signature": False})["jti"] for _ in range(50)}
    assert len(ids) == 50


def test_the_certificate_header_is_one_line_of_escaped_pem() -> None:
    header = escaped_certificate("parkco")
    assert not set(header) & set("\r\n ")
    assert x509.load_pem_x509_certificate(unquote(header).encode()).subject.rfc4514_string() == "CN=parkco"
