"""The front door: one visible list of steps from a request to an admitted Call.

The order is cheap and decisive first; a request that is refused consumes no rate and spends no proof.
`bench/admission.py` measures what each step costs. The steps are small functions on a Passage, below and in siblings.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway import jsonio
from gateway.admission import refusals as no
from gateway.admission.arrival import Arrival
from gateway.admission.message_signature import MessageSignatures
from gateway.admission.possession import CertificateReader
from gateway.admission.spent import SpentProofs
from gateway.admission.tokens import Recognised, TokenMemory
from gateway.call import Call, Operation, TokenKind
from gateway.oauth.dpop import Proof, verify_proof
from gateway.partners.snapshot import Snapshot
from gateway.policies.limits import Limiter

REQUEST_HASH_BYTES = 16
IDEMPOTENCY_KEY_LIMIT = 40  # characters, x-idempotency-key of UK Open Banking 4.0.1
_JSON_TYPES = ("application/json",)


@dataclass(slots=True)
class Passage:
    """One request on its way through the door: what the steps have found out so far."""

    operation: Operation
    arrival: Arrival
    path: dict[str, str]
    now_ms: int
    snapshot: Snapshot
    scheme: str = ""
    token: str = ""
    known: Recognised | None = None
    proof: Proof | None = None
    body: Any = None
    idempotency_key: str | None = None

    @property
    def recognised(self) -> Recognised:
        assert self.known is not None, "recognise_token comes first in the list"
        return self.known


class FrontDoor:
    """Holds what the steps need; `admit` walks the list."""

    def __init__(
        self,
        *,
        tokens: TokenMemory,
        certificates: CertificateReader,
        limiter: Limiter,
        spent: SpentProofs,
        messages: MessageSignatures,
        public_url: str,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._tokens = tokens
        self._certificates = certificates
        self._limiter = limiter
        self._spent = spent
        self._messages = messages
        self._public_url = public_url
        self._snapshot = snapshot
        self.steps: tuple[Callable[[Passage], None], ...] = (
            read_credential,
            self.recognise_token,
            self.prove_sender,
            check_policy,
            check_scope,
            check_headers,
            read_idempotency_key,
            read_json,
            self.check_message,
            self.limit_rate,
        )
        self.last_step: Callable[[Passage], Awaitable[None]] = self.spend_proof

    async def admit(self, operation: Operation, arrival: Arrival, *, path: dict[str, str], now_ms: int) -> Call:
        """Raises a Refusal from the step that said no; nothing has changed then but the proof being spent."""
        passage = Passage(operation, arrival, path, now_ms, self._snapshot())
        for step in self.steps:
            step(passage)
        if passage.proof is not None:
            await self.last_step(passage)
        return _call(passage)

    def check_picture(self) -> None:
        """Raises PictureTooOld: an operator's yes on a picture of before would be one too many, as a partner's."""
        self._snapshot()

    # --- steps that need the door's own state ------------------------------------------------------------------------
    def recognise_token(self, passage: Passage) -> None:
        known = passage.known = self._tokens.recognise(passage.token, passage.snapshot, now_ms=passage.now_ms)
        passage.arrival.partner_id = known.partner.partner_id

    def prove_sender(self, passage: Passage) -> None:
        """RFC 9449 §7.1 or RFC 8705 §3: the token's `cnf` names the key, the request shows it."""
        token, arrival = passage.recognised.token, passage.arrival
        if token.x5t_s256 is not None:
            self._prove_certificate(token.x5t_s256, passage)
            return
        if passage.scheme != "dpop":
            raise no.SenderNotProven("This token is bound to a DPoP key: send it with the scheme DPoP and a proof")
        proof = arrival.single("dpop")
        if proof is None:
            raise no.SenderNotProven("The DPoP header with a proof of the token's key is missing")
        passage.proof = verify_proof(
            proof,
            method=arrival.method,
            url=self._public_url + arrival.path,
            now_s=passage.now_ms // 1000,
            access_token=passage.token,
        )
        if passage.proof.jkt != token.jkt:
            raise no.SenderNotProven("The DPoP proof was made with another key than the token is bound to")

    def check_message(self, passage: Passage) -> None:
        """A payment's body is signed by the app; the cheaper checks come first."""
        if passage.operation.signed and passage.operation.body is not None:
            signature, body = passage.arrival.single("x-jws-signature"), passage.arrival.body
            self._messages.check(signature, body, app=passage.recognised.app, now_ms=passage.now_ms)

    def limit_rate(self, passage: Passage) -> None:
        """GCRA, per partner and per operation where the policy says so; a refusal consumes nothing."""
        policy, partner_id = passage.recognised.policy, passage.recognised.partner.partner_id
        own = policy.operation_rates.get(passage.operation.id)
        key, rate = (f"{partner_id} {passage.operation.id}", own) if own else (partner_id, policy.rate)
        wait_ms = self._limiter.check(key, rate, now_ms=passage.now_ms)
        if wait_ms:
            seconds = -(-wait_ms // 1000)
            raise no.TooManyRequests(
                f"Policy {policy.policy_id} allows {rate.per_second} a second, {rate.burst} at once; "
                f"try again in {seconds} s",
                headers=(
                    ("retry-after", str(seconds)),
                    ("ratelimit-policy", f'"{key}";q={rate.burst};w=1'),
                    ("ratelimit", f'"{key}";r=0;t={seconds}'),
                ),
            )

    async def spend_proof(self, passage: Passage) -> None:
        """The last step, as it writes: a proof is used once on all workers, and stays used after a crash."""
        assert passage.proof is not None
        if not await self._spent.spend(passage.proof, now_ms=passage.now_ms):
            raise no.ProofReplayed()

    def _prove_certificate(self, wanted: str, passage: Passage) -> None:
        if self._certificates.thumbprint(passage.arrival, now_ms=passage.now_ms) != wanted:
            raise no.SenderNotProven("This token is bound to a client certificate that the connection did not show")


# --- steps that need nothing but the passage ------------------------------------------------------------
def read_credential(passage: Passage) -> None:
    """RFC 6750 §2.1: the header only, any letter case of the scheme; a token in the query is never looked at."""
    header = passage.arrival.single("authorization")
    if header is None:
        raise no.CredentialMissing()
    scheme, _, token = header.partition(" ")
    passage.scheme, passage.token = scheme.lower(), token.strip(" ")
    if passage.scheme not in ("dpop", "bearer") or not passage.token:
        raise no.CredentialMissing("The Authorization header is not `DPoP <token>`")


def check_policy(passage: Passage) -> None:
    """Deny by default: the partner's policy names the operation and the network."""
    policy = passage.recognised.policy
    policy.check_operation(passage.operation.id)
    policy.check_source(passage.arrival.source)


def check_scope(passage: Passage) -> None:
    operation, grant = passage.operation, passage.recognised.grant
    if operation.scope not in grant.scopes:
        raise no.ScopeMissing(f"{operation.id} needs the scope {operation.scope}")
    if (grant.consent_id is not None) != (operation.token is TokenKind.CUSTOMER):
        if operation.token is TokenKind.CUSTOMER:
            raise no.CustomerTokenNeeded(f"{operation.id} takes a token of a customer's consent")
        raise no.TokenKindWrong(f"{operation.id} takes the app's own token")


def check_headers(passage: Passage) -> None:
    """Content-Type and Accept, where the operation reads or answers a body; and the query."""
    operation, arrival = passage.operation, passage.arrival
    if operation.body is not None or operation.raw_body:
        wanted = (operation.raw_body,) if operation.raw_body else _JSON_TYPES
        given = (arrival.single("content-type") or "").partition(";")[0].strip().lower()
        if given not in wanted:
            raise no.ContentTypeWrong(f"Send Content-Type: {wanted[0]}")
    accept = arrival.headers.get("accept")
    if accept and not _accepts(accept, operation):
        raise no.NotAcceptable("Send Accept: application/json, or leave the header out")
    if arrival.query_string:
        check_query(arrival, operation)


def check_query(arrival: Arrival, operation: Operation) -> None:
    """On our own APIs a field that nobody reads is refused: its sender would take the answer for another one."""
    if not operation.strict_query:
        return
    if unknown := sorted(arrival.query().keys() - set(operation.query)):
        known = f"it takes {', '.join(operation.query)}" if operation.query else "it takes none"
        raise no.QueryMalformed(
            f"{operation.id} has no query field {unknown[0]!r}; {known}", path=f"$query.{unknown[0]}"
        )


def read_idempotency_key(passage: Passage) -> None:
    if not passage.operation.idempotent:
        return
    key = passage.arrival.single("x-idempotency-key")
    if key is None:
        raise no.IdempotencyKeyMissing()
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_LIMIT or key != key.strip() or not key.isprintable():
        raise no.HeaderInvalid(f"x-idempotency-key has 1 to {IDEMPOTENCY_KEY_LIMIT} characters, no blanks at its ends")
    passage.idempotency_key = key


def read_json(passage: Passage) -> None:
    operation, body = passage.operation, passage.arrival.body
    if operation.body is not None:
        passage.body = jsonio.decode(body, operation.body)
        if operation.signed:  # a signature says nothing if two readers may read two values
            jsonio.refuse_repeated_members(body)


def _accepts(accept: str, operation: Operation) -> bool:
    ranges = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    kind = operation.answers.partition("/")[0]
    return any(r in ("*/*", f"{kind}/*", operation.answers, "application/problem+json") for r in ranges)


def _call(passage: Passage) -> Call:
    known, arrival = passage.recognised, passage.arrival
    return Call(
        operation=passage.operation,
        now_ms=passage.now_ms,
        interaction_id=arrival.interaction_id,
        partner=known.partner,
        app=known.app,
        policy=known.policy,
        grant=known.grant,
        path=passage.path,
        query=arrival.query(),
        headers=arrival.headers,
        body=passage.body,
        raw_body=arrival.body,
        idempotency_key=passage.idempotency_key,
        request_hash=request_hash(arrival) if passage.idempotency_key is not None else b"",
    )


def request_hash(arrival: Arrival) -> bytes:
    """What an idempotency key stands for: the same method, path and body, byte for byte.

    Cut to 128 bits, as it is stored with every redemption: only its own sender could be hurt by two that are alike.
    """
    line = f"{arrival.method} {arrival.path}\n".encode("latin-1", "replace")
    return hashlib.sha256(line + arrival.body).digest()[:REQUEST_HASH_BYTES]
