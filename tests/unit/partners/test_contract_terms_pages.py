"""The pages of contract terms are the vocabulary: every term, its default and a value that the reader takes."""

import re
import tomllib
from typing import Any, get_args

import msgspec
import pytest

from gateway.money import MINOR_DIGITS
from gateway.partners.contract import Contract
from tests.conftest import ROOT

PAGES = {"contract-terms.md": "required", "contract-terms.zh-CN.md": "必填"}
ABSENT = {"contract-terms.md": ("none", "empty"), "contract-terms.zh-CN.md": ("无", "空")}
ROW = re.compile(r"\| `(?P<term>[a-z_.]+)` \| (?P<does>.+) \| (?P<default>[^|]+) \| `(?P<example>[^|]+)` \|")


def vocabulary() -> dict[str, Any]:
    """Every leaf of the contract's shape by its path, as msgspec sees it."""
    return dict(_leaves(msgspec.inspect.type_info(Contract), ""))


def _leaves(shape: Any, path: str) -> Any:
    for field in shape.fields:
        name = f"{path}{field.encode_name}"
        inner = _struct(field.type)
        if inner is None:
            yield name, field
        else:
            yield from _leaves(inner, f"{name}.")


def _struct(kind: Any) -> Any:
    """The struct inside an optional or a list; None for a plain value."""
    if isinstance(kind, msgspec.inspect.StructType):
        return kind
    for inner in (*getattr(kind, "types", ()), getattr(kind, "item_type", None)):
        if inner is not None and (found := _struct(inner)) is not None:
            return found
    return None


def _choices(kind: Any) -> set[str]:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return set(kind.values)
    inner = (*getattr(kind, "types", ()), getattr(kind, "item_type", None))
    return {choice for each in inner if each is not None for choice in _choices(each)}


def rows(page: str) -> dict[str, re.Match[str]]:
    lines = (ROOT / "docs" / page).read_text().splitlines()
    found = [match for line in lines if (match := ROW.fullmatch(line))]
    assert len(found) == sum(line.startswith("| `") for line in lines), "a row of another form"
    return {match["term"]: match for match in found}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lists_every_term_and_no_other(page: str) -> None:
    assert sorted(rows(page)) == sorted(vocabulary())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_every_default(page: str) -> None:
    told = {term: match["default"].strip() for term, match in rows(page).items()}
    for term, field in vocabulary().items():
        if field.required:
            assert told[term] == PAGES[page], term
        elif field.default in (None, "", ()):
            absent = told[term].startswith(ABSENT[page])
            assert absent, term
        else:
            default = " ".join(field.default) if isinstance(field.default, tuple) else str(field.default)
            assert told[term].strip("`") == default, term


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_every_choice(page: str) -> None:
    for term, field in vocabulary().items():
        for choice in _choices(field.type):
            assert f"`{choice}`" in rows(page)[term]["does"], (term, choice)
    assert all(currency in rows(page)["contract.currency"]["does"] for currency in MINOR_DIGITS)


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_examples_are_values_of_their_terms(page: str) -> None:
    """`name = value` as it stands in the file, of the type that the reader asks for."""
    for term, match in rows(page).items():
        field = vocabulary()[term]
        ((name, value),) = tomllib.loads(match["example"]).items()
        assert name == term.rpartition(".")[2]
        shape = msgspec.defstruct("One", [(name.replace("from", "from_"), _annotation(term))])
        msgspec.convert({name.replace("from", "from_"): value}, shape)
        assert not field.required or value not in ("", [])


def _annotation(term: str) -> Any:
    """The Python type of the term in its struct."""
    kind: Any = Contract
    for name in term.split("."):
        members = {f.encode_name: f.name for f in msgspec.structs.fields(kind)}
        hints = {f.name: f.type for f in msgspec.structs.fields(kind)}
        hint = hints[members[name]]
        inner = [a for a in (hint, *get_args(hint)) if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        if not inner:
            return hint
        kind = inner[0]
    raise AssertionError(term)


def test_both_pages_give_the_same_examples() -> None:
    first, second = ({term: match["example"] for term, match in rows(page).items()} for page in PAGES)
    assert first == second
