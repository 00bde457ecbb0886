"""``--cluster "ray(processes=2, gpus=1)"``: what is asked of a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.options import AtLeast0, AtLeast1, NotNegative, Positive, check
from pivotrl.plugins import parse_spec, unknown
from pivotrl.protocols import InputError


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """Processes on a Ray cluster, and vLLM servers beside them."""

    address: str | None = None
    """Of a running cluster, ``host:port`` or ``auto``. None starts one on this machine for this command."""
    processes: AtLeast1 = 1
    """Processes that sample and learn."""
    cpus: Positive = 1
    """Processors of a process, which is also the number of its threads."""
    gpus: NotNegative = 0
    """GPUs of a process; it uses one."""
    strategy: Literal["pack", "spread"] = "pack"
    """``pack``: on few machines; ``spread``: on many."""
    port: AtLeast1 | None = None
    """Where the processes meet, on the machine of process 0. None: a free one."""
    max_restarts: AtLeast0 = 3
    """How often in a row all may start again without having got further, and a server without having been ready."""
    start_seconds: Positive = 600.0
    """How long places may be waited for, and servers."""
    servers: AtLeast0 = 0
    """vLLM servers of the policy ``vllm``, whose addresses it is given."""
    server_cpus: Positive = 1
    """Processors of a server."""
    server_gpus: NotNegative = 0
    """GPUs of a server."""
    beside: bool = False
    """Put each server on the machine of a process. With a half of a GPU for each, they share one."""
    serve: tuple[str, ...] = ("vllm", "serve")
    """The command of a server, as a list. The model and the options that the policy needs follow."""
    serve_options: tuple[str, ...] = ()
    """More options of a server, as a list: ``['--max-model-len', '8192']``."""

    def __post_init__(self) -> None:
        check(self)
        if self.port is not None and self.port > 65535:
            raise InputError(f"the option port must be at most 65535, not {self.port}")
        if self.beside and self.servers > self.processes:
            raise InputError(
                f"servers={self.servers} beside processes={self.processes}: each process takes one server at most; "
                "leave out beside, or start fewer servers"
            )
        if not self.serve:
            raise InputError("the option serve is empty; give the command of a server, such as ['vllm', 'serve']")

    def bundles(self) -> list[dict[str, float]]:
        """The places to reserve: one for each process, then one for each server that has its own."""
        learning = [_resources(self.cpus, self.gpus) for _ in range(self.processes)]
        serving = _resources(self.server_cpus, self.server_gpus)
        if not self.beside:
            return learning + [dict(serving) for _ in range(self.servers)]
        for place in learning[: self.servers]:
            for name, number in serving.items():
                place[name] = place.get(name, 0) + number
        return learning

    def place_of_server(self, number: int) -> int:
        """The index of its place."""
        return number if self.beside else self.processes + number

    def missing(self, total: Mapping[str, float]) -> str:
        """See :class:`pivotrl.samplers.ray.cluster.Demand`."""
        for name in ("CPU", "GPU"):
            wanted, has = sum(place.get(name, 0) for place in self.bundles()), total.get(name, 0.0)
            if wanted > has:
                return f"{self.named()} need {wanted:g} {name}s, and there are {has:g}"
        return ""

    def named(self) -> str:
        """``2 processes with 1 CPUs and 1 GPUs each and 1 servers with ...``"""
        told = f"{self.processes} processes with {_told(self.cpus, self.gpus)} each"
        if self.servers:
            told += f" and {self.servers} servers with {_told(self.server_cpus, self.server_gpus)} each"
        return told


def read_cluster(spec: str) -> RayCluster:
    """
    Raises:
        InputError: it is no cluster, or an option is unknown, of the wrong type or out of range.
    """
    name, options = parse_spec(spec)
    if name != "ray":
        raise InputError(unknown(f"no cluster called {name!r}", name, ["ray"]))
    known = [field.name for field in dataclasses.fields(RayCluster)]
    for option in options:
        if option not in known:
            raise InputError(unknown(f"ray has no option {option!r}", option, known, "its options are"))
    return RayCluster(**{option: _listed(option, value) for option, value in options.items()})


def _listed(option: str, value: Any) -> Any:
    if option not in ("serve", "serve_options"):
        return value
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise InputError(f"the option {option} is a list of words, such as ['vllm', 'serve'], not {value!r:.80}")
    return tuple(value)


def _resources(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}


def _told(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
