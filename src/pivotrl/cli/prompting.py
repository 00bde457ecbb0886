"""The tokenizer of the policy named on the command line, without the policy's weights."""

from __future__ import annotations

from pivotrl import plugins
from pivotrl.cli.choices import PolicyChoice
from pivotrl.options import check_arguments
from pivotrl.rendering import Renderer
from pivotrl.rows.prompts import Prompting

_HOW = ("style", "reasoning", "actions", "variables")
"""Options of ``hf`` that change how turns are written."""


def prompting_of(policy: PolicyChoice) -> Prompting | None:
    """What writes this policy's prompts; None for a policy without a tokenizer, and where no model is named.

    Raises:
        InputError: the policy or its tokenizer cannot be used.
    """
    name, options = plugins.parse_spec(policy.policy)
    named = {"policy": policy.policy} | ({"model": policy.model} if policy.model else {})
    if name != "hf":
        loaded = policy.load_late().loaded
        renderer = getattr(loaded, "renderer", None)
        return Prompting(renderer, loaded.max_context, named) if isinstance(renderer, Renderer) else None
    if policy.model is None and not options:
        return None
    from pivotrl.engine.prompting import load_prompting

    plugins.require_options("policies", policy.policy)
    target = plugins.find("policies", "hf")
    check_arguments(target, options)
    model = options.get("model") or policy.model or plugins.options_of(target)["model"].default
    tokenizer, stop_ids, max_context = load_prompting(model)
    how = {option: options[option] for option in _HOW if option in options}
    return Prompting(Renderer(tokenizer, stop_ids=stop_ids, **how), max_context, named)
