"""Reading policies/*.toml: default.toml opens nothing, a named policy opens by name, a partner's own terms come last.

Every key that a named policy leaves out is the default's, and the default denies; so what is not written is not open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.document import DocumentInvalid, read_document, shape_document
from gateway.money import MINOR_DIGITS
from gateway.policies.policy import SCOPES, Policy, Rate

V = TypeVar("V")
DEFAULT = "default"
NAME = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{1,39}$")]
_PerSecond = Annotated[int, Meta(ge=1, le=1_000_000)]  # more than one host answers
_Burst = Annotated[int, Meta(ge=1, le=1_000_000)]
_Amount = Annotated[int, Meta(ge=0, le=10**15)]  # minor units; 13 digits before the point are what the APIs can say


class RateTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """[rate]: sustained requests a second, and how many may come at once."""

    per_second: _PerSecond
    burst: _Burst


class AllowTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """[allow]: lists of names, nothing but what is listed; `networks` empty = any address."""

    operations: tuple[str, ...] | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    currencies: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    max_amount_minor: _Amount | UnsetType = UNSET


class PolicyHead(Struct, frozen=True, forbid_unknown_fields=True):
    """[policy]: `id` is the file's name, `title` is for people."""

    id: NAME
    title: str


class PolicyTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """A policies/*.toml as agreed."""

    policy: PolicyHead
    allow: AllowTerms = AllowTerms()
    rate: RateTerms | UnsetType = UNSET
    operation_rate: dict[str, RateTerms] = {}


class OwnTerms(Struct, frozen=True, forbid_unknown_fields=True):
    """[policy] of a partner.toml: the named policy, and what differs for this partner alone."""

    use: NAME
    allow: AllowTerms = AllowTerms()
    rate: RateTerms | UnsetType = UNSET
    operation_rate: dict[str, RateTerms] = {}


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy file that has passed every check: the plain document to store, and its terms."""

    file: str
    document: Mapping[str, Any]
    terms: PolicyTerms


def load_policies(folder: Path, operations: frozenset[str]) -> dict[str, PolicyDraft]:
    """Every policies/*.toml by id, checked against the operation table. Raises DocumentInvalid; then none is good."""
    drafts: dict[str, PolicyDraft] = {}
    for path in sorted(folder.glob("*.toml")):
        name = f"policies/{path.name}"
        document = read_document(path, name=name)
        terms = policy_terms(document, name=name)
        if terms.policy.id != path.stem:
            raise DocumentInvalid(name, "$.policy.id", f"is {terms.policy.id!r}, but the file is named {path.name}")
        check_terms(terms, operations, name=name)
        drafts[terms.policy.id] = PolicyDraft(name, document, terms)
    if DEFAULT not in drafts:
        raise DocumentInvalid(f"policies/{DEFAULT}.toml", "$", "is missing; without it nothing is denied by default")
    check_default(drafts[DEFAULT].terms, name=drafts[DEFAULT].file)
    return drafts


def policy_terms(document: Any, *, name: str) -> PolicyTerms:
    """The document's terms; names of operations are not checked here, as an older program may have applied them."""
    return shape_document(document, PolicyTerms, name=name)


def check_terms(terms: PolicyTerms | OwnTerms, operations: frozenset[str], *, name: str, key: str = "$") -> None:
    """Every name is one that exists. Raises DocumentInvalid."""
    allow = terms.allow
    for member, known in (("operations", operations), ("scopes", SCOPES), ("currencies", frozenset(MINOR_DIGITS))):
        _check_names(getattr(allow, member), known, name=name, key=f"{key}.allow.{member}")
    for index, network in enumerate(_given(allow.networks, ())):
        try:
            ip_network(network)
        except ValueError as error:
            raise DocumentInvalid(name, f"{key}.allow.networks[{index}]", f"is not a network: {error}") from None
    for operation in terms.operation_rate:
        if operation not in operations:
            raise DocumentInvalid(name, f"{key}.operation_rate.{operation}", f"{operation!r} is not known")


def check_default(terms: PolicyTerms, *, name: str) -> None:
    """The default says everything and opens nothing. Raises DocumentInvalid."""
    for field in msgspec.structs.fields(AllowTerms):
        value = getattr(terms.allow, field.name)
        if value is UNSET:
            raise DocumentInvalid(name, f"$.allow.{field.name}", "is missing; the default says every key")
        if value and field.name != "networks":
            raise DocumentInvalid(name, f"$.allow.{field.name}", "opens something; the default denies everything")
    if terms.rate is UNSET:
        raise DocumentInvalid(name, "$.rate", "is missing; the default says every key")


def compile_policy(default: PolicyTerms, named: PolicyTerms, own: OwnTerms, *, version: int) -> Policy:
    """What a partner may do: its own terms over the named policy's over the default's, key by key."""
    layers = (own, named, default)
    allows = [layer.allow for layer in layers]
    rate = _first([layer.rate for layer in layers])
    rates = {**default.operation_rate, **named.operation_rate, **own.operation_rate}
    return Policy(
        policy_id=named.policy.id,
        version=version,
        operations=frozenset(_first([allow.operations for allow in allows])),
        scopes=frozenset(_first([allow.scopes for allow in allows])),
        rate=Rate(rate.per_second, rate.burst),
        operation_rates={name: Rate(each.per_second, each.burst) for name, each in rates.items()},
        currencies=frozenset(_first([allow.currencies for allow in allows])),
        max_amount_minor=_first([allow.max_amount_minor for allow in allows]),
        networks=tuple(_network(text) for text in _first([allow.networks for allow in allows])),
    )


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


def _first(values: list[V | UnsetType]) -> V:
    """The nearest layer that says anything; the default says everything."""
    for value in values:
        if not isinstance(value, UnsetType):
            return value
    raise AssertionError("check_default has seen to it that the default says every key")


def _given(value: V | UnsetType, otherwise: V) -> V:
    return otherwise if isinstance(value, UnsetType) else value


def _check_names(names: tuple[str, ...] | UnsetType, known: frozenset[str], *, name: str, key: str) -> None:
    seen: set[str] = set()
    for index, each in enumerate(_given(names, ())):
        if each not in known:
            raise DocumentInvalid(name, f"{key}[{index}]", f"{each!r} is not known")
        if each in seen:
            raise DocumentInvalid(name, f"{key}[{index}]", f"{each!r} is named twice")
        seen.add(each)
