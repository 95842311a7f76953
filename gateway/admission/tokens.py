"""Recognising a token: verified once, remembered by the hash of all of it, questioned again at every use.

What is remembered is only that the signature, issuer and audience held. Expiry is compared with the clock each time;
the partner, app, key and grant are looked at again whenever the snapshot has a new generation, so a suspension or
revocation bites on tokens already given as soon as the worker's snapshot has it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.admission.refusals import PartnerNotActive, TokenNotAccepted
from gateway.call import Grant
from gateway.database.changes import Change
from gateway.oauth.tokens import VerifiedToken
from gateway.partners.partner import App, Partner, PartnerState
from gateway.partners.snapshot import Snapshot
from gateway.policies.policy import Policy

REMEMBERED = 50_000  # tokens a worker: some 40 MB; tokens live minutes, so this is thousands of busy customers


@dataclass(slots=True)
class Recognised:
    """A verified token and whom it stands for under the snapshot of `generation`."""

    token: VerifiedToken
    grant: Grant
    partner: Partner
    app: App
    policy: Policy
    generation: int


class TokenMemory:
    """Bounded; the oldest entries go first (a token is used in bursts and dies within minutes)."""

    def __init__(self, verify: Callable[[str], VerifiedToken]) -> None:
        self._verify = verify
        self._known: dict[bytes, Recognised] = {}

    async def forget(self, changes: Sequence[Change]) -> None:
        """The change feed's subscriber, after the keyring's: a bank key that was revoked vouches for nothing."""
        if any(change.kind == "bank_key" for change in changes):
            self._known.clear()

    def recognise(self, token: str, snapshot: Snapshot, *, now_ms: int) -> Recognised:
        """Raises TokenNotAccepted or PartnerNotActive."""
        digest = hashlib.sha256(token.encode("latin-1")).digest()
        known = self._known.get(digest)
        if known is None:
            known = resolve(self._verify(token), snapshot)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = known
        elif known.generation != snapshot.generation:
            try:
                known = resolve(known.token, snapshot)
            except (TokenNotAccepted, PartnerNotActive):
                del self._known[digest]
                raise
            self._known[digest] = known
        if known.token.expires_s * 1000 <= now_ms:
            self._known.pop(digest, None)
            raise TokenNotAccepted("The access token has expired; ask the token endpoint for a new one")
        return known


def resolve(token: VerifiedToken, snapshot: Snapshot) -> Recognised:
    """Whom a verified token stands for now. Raises TokenNotAccepted, PartnerNotActive."""
    app = snapshot.apps.get(token.client_id)
    if app is None:
        raise TokenNotAccepted("The app that this token was given to is not registered any more")
    partner = snapshot.partners[app.partner_id]
    policy = snapshot.policies.get(partner.partner_id)
    refusal = _fault(token, app, partner=partner, snapshot=snapshot)
    if refusal is not None or policy is None:
        refusal = refusal or PartnerNotActive(f"Partner {partner.partner_id} has no policy; everything is denied")
        refusal.partner_id = partner.partner_id
        raise refusal
    grant = Grant(token.grant_id, token.client_id, token.scopes, token.subject, token.consent_id)
    return Recognised(token, grant, partner, app, policy, snapshot.generation)


def _fault(
    token: VerifiedToken, app: App, *, partner: Partner, snapshot: Snapshot
) -> TokenNotAccepted | PartnerNotActive | None:
    """Why a token that was good when it was given is not any more."""
    if partner.state is not PartnerState.ACTIVE:
        return PartnerNotActive(f"Partner {partner.partner_id} is {partner.state}; talk to the bank")
    if token.grant_id in snapshot.revoked_grants:
        return TokenNotAccepted("The grant behind this token was revoked")
    if token.auth_key is not None and app.verifying_key(token.auth_key) is None:
        return TokenNotAccepted("The key that obtained this token was revoked")
    return None
