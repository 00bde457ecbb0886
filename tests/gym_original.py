"""NeMo Gym's own servers, run from its wheels: the oracle of the compatible verifier.

The wheels are read and never installed, because Gym asks for a newer Python and a hundred packages. What is replaced is
the web shell around the servers (base classes without behaviour); each `verify` runs as it was released.
"""

import logging
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

from pivotrl.records import Action

ORACLES = Path(sys.prefix) / "oracles"
"""Where `make test` puts the wheels."""
SERVERS = {
    "single_step_tool_use_with_argument_comparison": "SingleStepToolUseArgumentComparison",
    "swe_pivot": "SwePivot",
    "terminus_judge": "TerminusJudge",
    "terminal_multi_harness": "TerminalMultiHarness",
    "xlam_fc": "XlamFc",
}


def wheels() -> dict[str, Path]:
    """The wheel of each release at hand, by ``0.7`` and the like."""
    return {".".join(path.name.split("-")[1].split(".")[:2]): path for path in sorted(ORACLES.glob("nemo_gym-*.whl"))}


class Original:
    """The servers of one release.

    Args:
        folder: an empty one, where the wheel's servers are unpacked.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            wanted = tuple(f"resources_servers/{server}/" for server in SERVERS)
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith(wanted)])
        self.folder = folder
        with _importable(folder):
            self._apps = {server: import_module(f"resources_servers.{server}.app") for server in SERVERS}
        for app in self._apps.values():
            logging.getLogger(app.__name__).disabled = True

    def verify(self, server: str, row: dict[str, Any], action: Action, config: dict[str, Any]) -> Any:
        """The server's response to an action at a row. Raises whatever the server raises."""
        app, name = self._apps[server], SERVERS[server]
        made = getattr(app, f"{name}ResourcesServer")(getattr(app, f"{name}ResourcesServerConfig")(**config))
        given = {
            **row,
            "responses_create_params": _Open(**row["responses_create_params"]),
            "response": _Response(output=_items(action)),
        }
        running = made.verify(getattr(app, f"{name}VerifyRequest")(**given))
        try:
            running.send(None)
        except StopIteration as finished:
            return finished.value
        raise AssertionError("the server waits for something")


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Response(BaseModel):
    output: list[Any]


def _items(action: Action) -> Sequence[_Open]:
    """As Gym's own model server makes items of an answer: an empty one is a message too."""
    items = [_Open(type="function_call", name=call.name, arguments=call.arguments) for call in action.tool_calls]
    if action.content or not items:
        text = _Open(type="output_text", text=action.content or "")
        items.insert(0, _Open(type="message", role="assistant", content=[text]))
    return items


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """The folder's packages and the stand-ins can be imported; afterwards nothing of it is left behind."""
    stand_ins = _stand_ins()
    kept = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [
            name for name in sys.modules if name in stand_ins or name.partition(".")[0] == "resources_servers"
        ]:
            del sys.modules[name]
        sys.modules.update(kept)


def _stand_ins() -> dict[str, ModuleType]:
    class Config(BaseModel):
        pass

    class RunRequest(BaseModel):
        responses_create_params: Any

    class VerifyRequest(RunRequest):
        response: Any

    class VerifyResponse(VerifyRequest):
        reward: float

    class Server:
        def __init__(self, config: Any) -> None:
            self.config = config

    members = {
        "fastapi": {"FastAPI": object},
        "nemo_gym": {},
        "nemo_gym.base_resources_server": {
            "BaseResourcesServerConfig": Config,
            "BaseRunRequest": RunRequest,
            "BaseVerifyRequest": VerifyRequest,
            "BaseVerifyResponse": VerifyResponse,
            "SimpleResourcesServer": Server,
        },
        "nemo_gym.config_types": {"ModelServerRef": Config},
        "nemo_gym.judge": {"JudgeError": type("JudgeError", (Exception,), {}), "call_judge": None},
        "nemo_gym.openai_utils": {
            "NeMoGymEasyInputMessage": _Open,
            "NeMoGymResponse": _Response,
            "NeMoGymResponseCreateParamsNonStreaming": _Open,
        },
    }
    modules = {name: ModuleType(name) for name in members}
    for name, values in members.items():
        vars(modules[name]).update(values)
    return modules
