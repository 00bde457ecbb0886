"""recipes/cluster: the launch files for Slurm and Kubernetes are well-formed, and what they start exists.

They were never run. shellcheck and kubernetes-validate look at them too where they are installed (make test-scale).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from parsed_commands import require_parses
from pivotrl.cli.cluster.options import RayCluster, read_cluster

FOLDER = Path(__file__).parents[1] / "recipes" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
DOCUMENTS = {path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))}


def test_all_are_looked_at() -> None:
    assert len(SCRIPTS) == 2 and set(DOCUMENTS) == {"torchrun-job", "rayjob"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_bash_that_shellcheck_likes(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", script], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_options_stand_before_the_first_command(script: Path) -> None:
    lines = script.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    given = [line for line in lines[:first] if line.startswith("#SBATCH ")]
    assert len(given) >= 6 and not any(line.startswith("#SBATCH") for line in lines[first:])
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in given)


def test_what_the_scripts_start_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"SLURM_NNODES": "2", "head": "a", "port": "29500", "SLURM_JOB_ID": "7", "address": "10.0.0.1"}
    for name, marks in (("torchrun", "torchrun "), ("ray", "python -m ")):
        text = (FOLDER / f"{name}.sbatch").read_text().replace("\\\n", " ")
        text = re.sub(r"\$\{SLURM_GPUS_PER_NODE:-(\d+)\}", r"\1", text.replace("$processes", "16"))
        text = text.replace('"$@"', "runs/mine")
        for variable, value in variables.items():
            text = text.replace(f"${variable}", value)
        line = next(line for line in text.splitlines() if line.startswith("srun") and marks in line)
        words = shlex.split(line.removesuffix("&"))
        require_started(words[words.index(marks.split()[0]) :], monkeypatch)


def require_started(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Args:
    words: ``torchrun ...`` or ``python -m pivotrl.cli ...``
    """
    if words[0] == "torchrun":
        given = get_args_parser().parse_args(words[1:])
        assert given.module and given.training_script == "pivotrl.cli"
        own = given.training_script_args
    else:
        assert words[:3] == ["python", "-m", "pivotrl.cli"]
        own = words[3:]
        asked = read_cluster(own[own.index("--cluster") + 1])
        assert (asked.processes, asked.gpus) == (16, 1)
    require_parses(own, monkeypatch)


def pods(document: Any) -> list[Any]:
    """Every specification of a pod in it."""
    if isinstance(document, dict):
        own = [document] if "containers" in document else []
        return own + [pod for value in document.values() for pod in pods(value)]
    return [pod for value in document for pod in pods(value)] if isinstance(document, list) else []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pods_mount_the_run_and_what_they_name(name: str) -> None:
    found = pods(DOCUMENTS[name])
    assert len(found) == {"torchrun-job": 1, "rayjob": 2}[name]
    for pod in found:
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert any(mount["mountPath"] == "/runs" for mount in container["volumeMounts"])


def test_what_kubernetes_starts_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    service, job = DOCUMENTS["torchrun-job"]
    (pod,) = pods(job)
    words = pod["containers"][0]["command"]
    require_started(words, monkeypatch)
    given = get_args_parser().parse_args(words[1:])
    assert given.rdzv_endpoint == f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["ports"][0]["port"] == 29500
    assert int(given.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert int(given.nproc_per_node) == pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]


def test_the_ray_job_has_the_gpus_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = DOCUMENTS["rayjob"]
    words = shlex.split(job["spec"]["entrypoint"])
    require_started(words, monkeypatch)
    asked: RayCluster = read_cluster(words[-1])
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    gpus = pods(workers)[0]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert workers["replicas"] * gpus == asked.processes and asked.address == "auto"


def test_kubernetes_takes_the_job_and_every_pod() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate: make test-scale")
    for document in DOCUMENTS["torchrun-job"]:
        validate.validate(document, "1.30", strict=True)
    for pod in pods(DOCUMENTS["rayjob"]):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}
        validate.validate(whole, "1.30", strict=True)
