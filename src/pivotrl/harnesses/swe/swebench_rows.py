"""Whether swebench can score rows, and takes a file of predictions: ``swebench_rows.py rows.jsonl [predictions]``.

Run by the interpreter that has swebench. It prints JSON: ``version``, and ``error`` or None.
"""

import importlib.metadata
import json
import sys

from swebench.harness.log_parsers import PARSER_REGISTRY
from swebench.harness.utils import get_predictions_from_file, load_swebench_dataset, make_test_spec


def _fault(rows, predictions):
    instances = load_swebench_dataset(rows)
    for number, instance in enumerate(instances, start=1):
        name = instance.get("instance_id", f"row {number}")
        try:
            spec = make_test_spec(instance)
        except KeyError as error:
            return (
                f"{name} has no field {error}, which this version of swebench needs; get the rows as it publishes them"
            )
        if spec.log_parser not in PARSER_REGISTRY:
            return f"{name}: swebench knows no log parser {spec.log_parser!r}"
    known = {instance["instance_id"] for instance in instances}
    given = get_predictions_from_file(predictions, rows, "test") if predictions else []
    unknown = [one["instance_id"] for one in given if one["instance_id"] not in known]
    return f"a prediction names {unknown[0]}, which is no row" if unknown else None


def main(rows, predictions=""):
    try:
        fault = _fault(rows, predictions)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    print(json.dumps({"version": importlib.metadata.version("swebench"), "error": fault}))


if __name__ == "__main__":
    main(*sys.argv[1:])
