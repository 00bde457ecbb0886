"""Plays and grades tasks of BFCL with the package's own commands, one task after the other, for a model of any name.

Run by the interpreter of the harness: ``play.py '{"model": ..., "tasks": [[category, id], ...], ...}'``. Each task gets
the folders ``N/result`` and ``N/score``.

The package keeps a table of models, each with the SDK of its vendor, and evaluates the text of calls. So this script

- adds the model to the table, with the package's handler for OpenAI-compatible endpoints in function-calling mode;
- lets the SDKs of vendors, which that handler does not use, be absent;
- passes on only calls that name a function of the task, with literal arguments. A call that names something else, such
  as ``__import__``, counts as text that is no call.
"""

import builtins
import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from pathlib import Path
from types import SimpleNamespace

_SDKS = ("anthropic", "boto3", "cohere", "google", "mistralai", "qwen_agent", "writerai")
PLAYER = "player"
"""The model's name in the package's table and folders."""


def _empty_class(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Empty(name, (Exception,), {})


class _Empty(type):
    def __getattr__(cls, name):
        return _empty_class(name)


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for SDKs that are not installed: every name in them is an empty class."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in _SDKS else None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = _empty_class
        return module

    def exec_module(self, module):
        pass


def main(asked):
    sys.meta_path.append(_Absent())  # last: what is installed comes first
    from bfcl_eval._llm_response_generation import main as generate
    from bfcl_eval.constants.eval_config import PROJECT_ROOT, TEST_IDS_TO_GENERATE_PATH
    from bfcl_eval.constants.model_config import MODEL_CONFIG_MAPPING, ModelConfig
    from bfcl_eval.eval_checker import eval_runner

    eval_runner.generate_leaderboard_csv = lambda *table: None  # of one task it fails, and would say nothing
    MODEL_CONFIG_MAPPING[PLAYER] = ModelConfig(
        model_name=asked["model"],
        display_name=asked["model"],
        url="",
        org="",
        license="",
        model_handler=_handler(asked),
        is_fc_model=True,
        underscore_to_dot=True,
    )
    for number, (category, task) in enumerate(asked["tasks"]):
        Path(TEST_IDS_TO_GENERATE_PATH).write_text(json.dumps({category: [task]}))
        options = SimpleNamespace(
            model=[PLAYER],
            test_category=[category],
            temperature=asked["temperature"],
            include_input_log=True,
            exclude_state_log=True,
            num_gpus=1,
            num_threads=1,
            gpu_memory_utilization=0.9,
            backend="vllm",
            skip_server_setup=True,
            local_model_path=None,
            result_dir=f"{number}/result",
            allow_overwrite=False,
            run_ids=True,
            enable_lora=False,
            max_lora_rank=None,
            lora_modules=None,
        )
        (PROJECT_ROOT / str(number) / "score").mkdir(parents=True, exist_ok=True)
        generate(options)
        eval_runner.main([PLAYER], [category], f"{number}/result", f"{number}/score", partial_eval=True)


def _handler(asked):
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils
    from bfcl_eval.model_handler.api_inference.openai_completion import OpenAICompletionsHandler

    forbidden = {*dir(builtins), *vars(multi_turn_utils)}

    class Handler(OpenAICompletionsHandler):
        """The package's handler, which cannot be given a seed or a limit of tokens."""

        def inference(self, test_entry, include_input_log, exclude_state_log):
            self.task = test_entry["id"]
            return super().inference(test_entry, include_input_log, exclude_state_log)

        def generate_with_backoff(self, **request):
            request.pop("store", None)  # a field of one vendor
            if asked["names_tasks"]:
                request["user"] = self.task
            return super().generate_with_backoff(**request, **asked["sampling"])

        def decode_execute(self, result, has_tool_call_tag):
            for call in result if isinstance(result, list) else ():
                for name, arguments in call.items():
                    words = [name, *json.loads(arguments)]
                    if not all(word.isidentifier() for word in words) or name in forbidden:
                        raise ValueError(f"{name[:80]!r} is no call of a function")
            return super().decode_execute(result, has_tool_call_tag)

    return Handler


if __name__ == "__main__":
    os.environ.setdefault("BFCL_PROJECT_ROOT", str(Path.cwd()))
    main(json.loads(sys.argv[1]))
