"""Reading partners/<id>/partner.toml: who the partner is, its sites, apps and public keys; all of it or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from gateway.document import DocumentInvalid, read_document, shape_document
from gateway.partners.partner import App, AppKey, KeyState, Partner, PartnerState, Site
from gateway.partners.public_key import KeyUnfit, check_public_key, thumbprint
from gateway.policies.policy_file import DEFAULT, NAME, OwnTerms, PolicyDraft, check_terms, compile_policy

AUTH_METHODS = frozenset(("private_key_jwt",))  # no shared secrets, no public clients
PROFILES = frozenset(("fapi2",))
LOOPBACK = "localhost"
_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_SiteName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_ClientName = Annotated[
    str, Meta(pattern=r"^[a-z][a-z0-9-]{2,59}$")
]  # a customer's id starts with cus_, so never equal
_Mcc = Annotated[str, Meta(pattern=r"^[0-9]{4}$")]  # ISO 18245
_Capacity = Annotated[int, Meta(ge=0, le=1_000_000)]


class PartnerHead(Struct, frozen=True, forbid_unknown_fields=True):
    """[partner]"""

    id: NAME
    name: _Name
    name_zh: _Name
    trade: NAME
    settlement_account: _Name
    contacts: dict[str, _Name] = {}


class SiteTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """[[site]]"""

    id: _SiteName
    name: _Name
    mcc: _Mcc
    name_zh: str = ""
    capacity: _Capacity = 0
    tariff: str = ""


class AppTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """[[app]]; `keys` are public JWKs."""

    client_id: _ClientName
    name: _Name
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]
    auth_method: str = "private_key_jwt"
    profile: str = "fapi2"
    keys: tuple[dict[str, str], ...] = ()


class PartnerTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """A partner.toml as agreed."""

    partner: PartnerHead
    policy: OwnTerms
    site: tuple[SiteTerms, ...] = ()
    app: tuple[AppTerms, ...] = ()


@dataclass(frozen=True, slots=True)
class PartnerDraft:
    """A partner file that has passed every check: the plain document to store, and its terms."""

    file: str
    document: Mapping[str, Any]
    terms: PartnerTerms


@dataclass(frozen=True, slots=True)
class _Taken:
    """Names that belong to one partner only, and the file that had them first."""

    client_ids: dict[str, str] = field(default_factory=dict)
    kids: dict[str, str] = field(default_factory=dict)


def load_partners(
    folder: Path, *, policies: Mapping[str, PolicyDraft], operations: frozenset[str]
) -> dict[str, PartnerDraft]:
    """Every partners/<id>/partner.toml by id. Raises DocumentInvalid; then none is good."""
    drafts: dict[str, PartnerDraft] = {}
    taken = _Taken()
    for directory in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = f"partners/{directory.name}/partner.toml"
        document = read_document(directory / "partner.toml", name=name)
        terms = partner_terms(document, name=name)
        if terms.partner.id != directory.name:
            raise DocumentInvalid(name, "$.partner.id", f"is {terms.partner.id!r}, but the folder is {directory.name}")
        _check_policy(terms, policies, operations, name=name)
        _check_sites(terms, name=name)
        for index, app in enumerate(terms.app):
            _check_app(app, taken, name=name, key=f"$.app[{index}]")
        drafts[terms.partner.id] = PartnerDraft(name, document, terms)
    return drafts


def partner_terms(document: Any, *, name: str) -> PartnerTerms:
    return shape_document(document, PartnerTerms, name=name)


def compile_partner(
    terms: PartnerTerms, *, state: PartnerState, registered: Mapping[str, tuple[AppKey, ...]]
) -> Partner:
    """The partner as requests see it. `registered` has keys of its apps that live outside the file, by client_id."""
    head = terms.partner
    return Partner(
        partner_id=head.id,
        name=head.name,
        name_zh=head.name_zh,
        trade=head.trade,
        state=state,
        policy_id=terms.policy.use,
        apps=tuple(_compile_app(app, head.id, registered.get(app.client_id, ())) for app in terms.app),
        contacts=head.contacts,
        sites=tuple(Site(s.id, s.name, s.mcc, s.capacity, s.tariff, s.name_zh) for s in terms.site),
        settlement_account=head.settlement_account,
    )


def _compile_app(app: AppTerms, partner_id: str, registered: tuple[AppKey, ...]) -> App:
    """A key that the database knows is as the database says: a revoked one stays revoked, whatever the file holds."""
    known = {key.kid for key in registered}
    from_file = (app_key(jwk, KeyState.ACTIVE) for jwk in app.keys)
    return App(
        client_id=app.client_id,
        partner_id=partner_id,
        name=app.name,
        auth_method=app.auth_method,
        redirect_uris=app.redirect_uris,
        scopes=frozenset(app.scopes),
        keys=(*registered, *(key for key in from_file if key.kid not in known)),
        profile=app.profile,
    )


def app_key(jwk: Mapping[str, Any], state: KeyState) -> AppKey:
    return AppKey(jwk["kid"], jwk, state, thumbprint(jwk))


# --- rules --------------------------------------------------------------------------------------------------------
def _check_policy(
    terms: PartnerTerms, policies: Mapping[str, PolicyDraft], operations: frozenset[str], *, name: str
) -> None:
    if terms.policy.use not in policies:
        raise DocumentInvalid(name, "$.policy.use", f"there is no policies/{terms.policy.use}.toml")
    check_terms(terms.policy, operations, name=name, key="$.policy")
    opened = compile_policy(policies[DEFAULT].terms, policies[terms.policy.use].terms, terms.policy, version=0).scopes
    for number, app in enumerate(terms.app):
        for index, scope in enumerate(app.scopes):
            if scope not in opened:
                raise DocumentInvalid(
                    name, f"$.app[{number}].scopes[{index}]", f"the policy {terms.policy.use} does not open {scope!r}"
                )


def _check_sites(terms: PartnerTerms, *, name: str) -> None:
    seen: set[str] = set()
    for index, site in enumerate(terms.site):
        if site.id in seen:
            raise DocumentInvalid(name, f"$.site[{index}].id", f"{site.id!r} is the id of another site")
        seen.add(site.id)


def _check_app(app: AppTerms, taken: _Taken, *, name: str, key: str) -> None:
    owner = taken.client_ids.setdefault(app.client_id, f"{name} {key}")
    if owner != f"{name} {key}":
        raise DocumentInvalid(name, f"{key}.client_id", f"{app.client_id!r} is taken by {owner}")
    for member, value, known in (("auth_method", app.auth_method, AUTH_METHODS), ("profile", app.profile, PROFILES)):
        if value not in known:
            raise DocumentInvalid(name, f"{key}.{member}", f"is {value!r}; known: {', '.join(sorted(known))}")
    for index, address in enumerate(app.redirect_uris):
        if reason := redirect_fault(address):
            raise DocumentInvalid(name, f"{key}.redirect_uris[{index}]", reason)
    for index, jwk in enumerate(app.keys):
        _check_key(jwk, taken, name=name, key=f"{key}.keys[{index}]")


def _check_key(jwk: Mapping[str, str], taken: _Taken, *, name: str, key: str) -> None:
    try:
        check_public_key(jwk)
    except KeyUnfit as error:
        raise DocumentInvalid(name, f"{key}.{error.member}", error.reason) from None
    if not jwk.get("kid"):
        raise DocumentInvalid(name, f"{key}.kid", "is missing; a key is named so that it can be rolled")
    place = f"{name} {key}"
    owner = taken.kids.setdefault(thumbprint(jwk), place)
    if owner != place:
        raise DocumentInvalid(name, key, f"is the same key as {owner}; every app has keys of its own")


def redirect_fault(address: str) -> str:
    """Empty, or why this address is not redirected to: exact https, or http to the machine itself (RFC 8252 §7.3)."""
    try:
        parts = urlsplit(address)
        port_is_usable = parts.port is None or parts.port > 0
    except ValueError:
        return f"{address!r} is not an address"
    if not address.isascii() or not address.isprintable() or set(address) & set(' *\\"<>'):
        return f"{address!r} has characters that an exact address has not"
    if not parts.hostname or parts.username is not None or "#" in address or not port_is_usable:
        return f"{address!r} needs a host, and no user, no fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return ""
    return f"{address!r} is neither https nor http to the loopback address"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == LOOPBACK
