"""A plan for people at a terminal, and for programs."""

from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gateway.partners.plan import Plan, PlannedDocument, Step, told

_STYLE = {Step.ADD: "green", Step.CHANGE: "yellow", Step.REMOVE: "red", Step.EXTRA: "magenta"}


def render(plan: Plan) -> RenderableType:
    """One row a document that is not the same on both sides, the fields that differ below it; the rest is a number."""
    shown = (*plan.steps, *plan.extra)
    unchanged = f"{len(plan.documents) - len(shown):,} unchanged"
    if not shown:
        return f"partners/ and policies/: {unchanged}"
    table = Table(
        "", "Kind", "Id", "Version", "What differs", title="partners/ and policies/", title_justify="left",
        caption=unchanged, caption_justify="left",
    )  # fmt: skip
    for document in shown:
        table.add_row(
            document.step.value, document.kind, document.id, str(document.version), _told(document),
            style=_STYLE[document.step],
        )  # fmt: skip
    return table


def members(plan: Plan) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "Document": [
            {
                "Step": document.step.value, "Kind": document.kind, "Id": document.id, "Version": document.version,
                "Note": document.note,
                "Difference": [
                    {"Key": each.key, "Before": each.before, "After": each.after} for each in document.differences
                ],
            }
            for document in (*plan.steps, *plan.extra)
        ],
        "Unchanged": len(plan.documents) - len(plan.steps) - len(plan.extra),
    }  # fmt: skip


def _told(document: PlannedDocument) -> str:
    lines = [document.note] if document.note else []
    return "\n".join(escape(line) for line in [*lines, *map(told, document.differences)])
