"""The templates of the report's pages. Everything shown is escaped; the pages forbid scripts and network."""

from __future__ import annotations

from typing import Any

from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError
from pivotrl.report import sentences
from pivotrl.report.browser.words import REASONS
from pivotrl.report.summary import is_for_training


def require_packages() -> None:
    """Raises:
    InputError: jinja2 or matplotlib is missing.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"the report needs {error.name}: {install_hint('report')}") from error


def render(template: str, **values: Any) -> str:
    """A page from one of the templates in ``templates/``."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pivotrl.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("plain", "clip", "amount", "signed", "interval", "duration", "p_value"):
        environment.filters[name] = getattr(sentences, name)
    environment.filters["is_for_training"] = is_for_training
    environment.filters["in_words"] = lambda reason: REASONS.get(reason, "")
    return environment.get_template(template).render(**values)
