"""contract.toml: read strictly, its examples run; what cannot be agreed to is refused whole."""

from pathlib import Path

from gateway.document import read_document
from gateway.partners.contract import Contract
from gateway.partners.contract_rules import from_document
from gateway.partners.pricing import check_examples


def load_contract(path: Path, *, name: str) -> Contract:
    """Raises DocumentInvalid naming the file, the key path and the reason."""
    contract = from_document(read_document(path, name=name), file=name)
    check_examples(contract, file=name)
    return contract
