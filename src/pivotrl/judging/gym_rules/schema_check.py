"""Whether a JSON value fits a JSON schema, by the library and version that Gym's servers use."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema_specifications import REGISTRY
from openapi_schema_validator import OAS31Validator
from referencing.exceptions import Unresolvable

_FAULTS = (
    *(SchemaError, Unresolvable, re.error, RecursionError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
"""What the library raises for a schema that is none, or that it cannot follow; the value does not fit then."""


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """False too when the schema is faulty, as in Gym.

    Unlike there, nothing is fetched: a reference to another address cannot be followed.
    """
    try:
        validator = _validator(json.dumps(schema))
        return validator is not None and bool(validator.is_valid(value))
    except _FAULTS:
        return False


@functools.lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    """The compiled schema; None if it is invalid. Checking a schema takes far longer than checking a value."""
    schema = json.loads(schema_text)
    try:
        OAS31Validator.check_schema(schema)
    except _FAULTS:
        return None
    return OAS31Validator(schema, registry=REGISTRY)
