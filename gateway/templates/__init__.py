"""Templates of all pages: one skeleton, and each page in one language, its reader's."""

from pathlib import Path

import jinja2

from gateway.templates.language import chosen, other_languages, say

SHARED = Path(__file__).parent


def template_environment(*folders: str) -> jinja2.Environment:
    """The templates of `folders` and the shared ones. Autoescaped, undefined names are errors, whitespace trimmed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, str(SHARED)]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(say=say, language=chosen, other_languages=other_languages)
    return environment
