"""The whole of partners/ and policies/, read and checked against itself; one bad file and none of it is agreed."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.document import DocumentInvalid, document_hash
from gateway.jsonio import decode
from gateway.partners.contract import Contract, written
from gateway.partners.contract_file import load_contract
from gateway.partners.partner_file import PartnerDraft, load_partners
from gateway.policies.policy_file import PolicyDraft, load_policies

LATEST = "contract.toml"
_EARLIER = re.compile(r"contract\.v([1-9][0-9]{0,5})\.toml")


@dataclass(frozen=True, slots=True)
class ContractDraft:
    """A contract version that has passed every check."""

    file: str
    partner_id: str
    contract: Contract


@dataclass(frozen=True, slots=True)
class AgreedDocument:
    """One document to apply. Of a contract, `contract` is the version read; others are numbered when applied."""

    file: str
    kind: str
    id: str
    partner_id: str | None
    body: Mapping[str, Any]
    sha256: bytes
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class AgreedFolder:
    """Partners and policies by id; contract versions oldest first."""

    policies: Mapping[str, PolicyDraft]
    partners: Mapping[str, PartnerDraft]
    contracts: tuple[ContractDraft, ...]

    def documents(self) -> Iterator[AgreedDocument]:
        """In the order of applying: what is referred to comes first."""
        for policy_id, policy in self.policies.items():
            yield AgreedDocument(
                policy.file, "policy", policy_id, None, policy.document, document_hash(policy.document)
            )
        for partner_id, partner in self.partners.items():
            yield AgreedDocument(
                partner.file, "partner", partner_id, partner_id, partner.document, document_hash(partner.document)
            )
        for draft in self.contracts:
            text = written(draft.contract)
            yield AgreedDocument(
                draft.file, "contract", draft.contract.contract_id, draft.partner_id, decode(text, dict[str, Any]),
                sha256(text).digest(), contract=draft.contract,
            )  # fmt: skip


def folder_digest(folder: Path, operations: frozenset[str]) -> bytes:
    """SHA-256 of all that reading the folder depends on: every file, its name, and what this program knows."""
    digest = sha256("\0".join((__version__, *sorted(operations))).encode())
    for name in ("policies", "partners"):
        for path in _names(folder / name):
            digest.update(f"\0{path}\0".encode())
            with suppress(OSError), open(folder / name / path, "rb", buffering=0) as file:  # loading says what is wrong
                digest.update(sha256(file.read()).digest())
    return digest.digest()


def _names(folder: Path) -> Iterator[str]:
    """What lies in a folder and in those in it, in order; a folder without anything is one of them."""
    if folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            inside = sorted(os.listdir(entry)) if entry.is_dir() else ()
            yield from (f"{entry.name}/{name}" for name in inside) if inside else (entry.name,)


def load_folder(folder: Path, operations: frozenset[str]) -> AgreedFolder:
    """Read `folder`/policies and `folder`/partners. Raises DocumentInvalid for the first fault found."""
    for name in ("policies", "partners"):
        if not (folder / name).is_dir():
            raise DocumentInvalid(
                f"{folder.absolute() / name}", "$",
                "is not there; name the folder that holds partners/ and policies/, or set PARASOL_DATA_DIR",
            )  # fmt: skip
    policies = load_policies(folder / "policies", operations)
    partners = load_partners(folder / "partners", policies=policies, operations=operations)
    contracts: list[ContractDraft] = []
    owners: dict[str, str] = {}
    for partner_id, partner in partners.items():
        versions = _load_versions(folder / "partners" / partner_id, partner)
        for draft in versions:
            owner = owners.setdefault(draft.contract.contract_id, partner_id)
            if owner != partner_id:
                raise DocumentInvalid(draft.file, "$.contract.id", f"is the id of a contract of {owner}")
        contracts.extend(versions)
    return AgreedFolder(policies, partners, tuple(contracts))


def _load_versions(directory: Path, partner: PartnerDraft) -> list[ContractDraft]:
    """contract.toml is the latest version, contract.vN.toml are those before; none at all is fine."""
    partner_id = directory.name
    drafts = []
    for path in sorted(directory.glob("contract*.toml")):
        name = f"partners/{partner_id}/{path.name}"
        contract = load_contract(path, name=name)
        _check_file_name(path.name, contract, name=name)
        _check_sites(contract, partner, name=name)
        drafts.append(ContractDraft(name, partner_id, contract))
    drafts.sort(key=lambda draft: draft.contract.version)
    _check_order(drafts)
    return drafts


def _check_file_name(file: str, contract: Contract, *, name: str) -> None:
    earlier = _EARLIER.fullmatch(file)
    if earlier is None and file != LATEST:
        raise DocumentInvalid(name, "$", f"is named neither {LATEST} nor contract.v<version>.toml")
    if earlier is not None and int(earlier[1]) != contract.version:
        raise DocumentInvalid(name, "$.contract.version", f"is {contract.version}, but the file is named {file}")


def _check_order(drafts: list[ContractDraft]) -> None:
    for before, after in pairwise(drafts):
        if after.contract.contract_id != before.contract.contract_id:
            raise DocumentInvalid(after.file, "$.contract.id", f"is not the id in {before.file}; a partner has one")
        if after.contract.version == before.contract.version:
            raise DocumentInvalid(after.file, "$.contract.version", f"is also the version of {before.file}")
    if drafts and not drafts[-1].file.endswith(f"/{LATEST}"):
        raise DocumentInvalid(drafts[-1].file, "$.contract.version", f"is later than that of {LATEST}")


def _check_sites(contract: Contract, partner: PartnerDraft, *, name: str) -> None:
    """An offer for a site that is not there would never apply, and nobody would be told."""
    sites = {site.id for site in partner.terms.site}
    for number, discount in enumerate(contract.discount):
        for index, site in enumerate(discount.when.site):
            if site not in sites:
                key = f"$.discount[{number}].when.site[{index}]"
                raise DocumentInvalid(name, key, f"{site!r} is not a site of {partner.terms.partner.id}")
