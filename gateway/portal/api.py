"""The first page, and those of partner developers: the first signed call, the API reference, what each error means."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from gateway.call import Answer, OpenCall, Operation
from gateway.pages import page_answer
from gateway.portal.errors import ErrorEntry, error_entries
from gateway.portal.reference import Reference, read_references
from gateway.refusal import UnknownResource
from gateway.templates import template_environment
from gateway.templates.language import LANGUAGES, choice_cookie

_OPENAPI_TYPE = "application/yaml"
_OWN_PATH = re.compile(r"/(?:[!-.0-[\]-~][!-[\]-~]*)?", re.ASCII)  # not //, nor /\\: that would be another host's


@dataclass(frozen=True, slots=True)
class PortalApi:
    """Everything is read once at the start: the pages only change with a release."""

    references: Mapping[str, Reference]
    sources: Mapping[str, bytes]
    operations: Sequence[Operation]
    errors: Sequence[ErrorEntry]
    issuer: str
    sandbox: bool
    templates: jinja2.Environment

    @classmethod
    def load(cls, folder: Path, *, operations: Sequence[Operation], issuer: str, sandbox: bool) -> "PortalApi":
        return cls(
            references={reference.name: reference for reference in read_references(folder)},
            sources={path.name: path.read_bytes() for path in sorted(folder.glob("*.yaml"))},
            operations=operations,
            errors=error_entries(),
            issuer=issuer,
            sandbox=sandbox,
            templates=template_environment(str(files("gateway.portal") / "templates")),
        )

    async def welcome(self, call: OpenCall) -> Answer:
        """Whoever comes without a path is led on."""
        return self._page("welcome.html")

    async def choose_language(self, call: OpenCall) -> Answer:
        """Kept in this browser; back to `To`, a path of ours."""
        tag = call.path["Language"]
        if tag not in LANGUAGES:
            raise UnknownResource(f"Pages are in {', '.join(LANGUAGES)}")
        back = call.query.get("To", "/")
        return Answer(303, None, (("location", back if _OWN_PATH.fullmatch(back) else "/"), choice_cookie(tag)))

    async def home(self, call: OpenCall) -> Answer:
        """What it is, the first call in ten minutes, where to go on."""
        return self._page("home.html", operations=self.operations)

    async def reference(self, call: OpenCall) -> Answer:
        """One contract, operation by operation."""
        found = self.references.get(call.path["Name"])
        if found is None:
            raise UnknownResource(f"There is no contract {call.path['Name']}; see /portal")
        return self._page("reference.html", reference=found)

    async def error_list(self, call: OpenCall) -> Answer:
        """Every refusal: its code, its status, what to do."""
        return self._page("errors.html", errors=self.errors)

    async def contract(self, call: OpenCall) -> Answer:
        """The contract itself, for generators and linters."""
        source = self.sources.get(call.path["File"])
        if source is None:
            raise UnknownResource(f"There is no contract file {call.path['File']}; see /portal")
        return Answer(200, source, (("cache-control", "public, max-age=300"),), _OPENAPI_TYPE)

    def _page(self, name: str, **values: object) -> Answer:
        common = {"issuer": self.issuer, "sandbox": self.sandbox, "references": list(self.references.values())}
        return page_answer(self.templates.get_template(name).render(**common, **values))
