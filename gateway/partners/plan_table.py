"""A plan for people at a terminal."""

from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gateway.jsonio import encode
from gateway.partners.plan import Difference, Plan, PlannedDocument, Step

_STYLE = {Step.ADD: "green", Step.CHANGE: "yellow", Step.KEEP: "dim", Step.REMOVE: "red"}
_VALUE_LIMIT = 60  # characters of a value; the files hold the rest


def render(plan: Plan) -> RenderableType:
    """One row a document, the fields that differ below it."""
    table = Table("", "Kind", "Id", "Version", "What differs", title="partners/ and policies/", title_justify="left")
    for document in plan.documents:
        table.add_row(
            document.step.value, document.kind, document.id, str(document.version), _told(document),
            style=_STYLE[document.step],
        )  # fmt: skip
    return table


def _told(document: PlannedDocument) -> str:
    lines = [document.note] if document.note else []
    return "\n".join(escape(line) for line in [*lines, *map(_line, document.differences)])


def _line(difference: Difference) -> str:
    return f"{difference.key}: {_value(difference.before)} → {_value(difference.after)}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    text = encode(value).decode()
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 1] + "…"
