"""`tests/version_server.py` as a program with the options of `vllm serve`, to be placed and killed."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import torch

from version_server import VersionServer

if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--served-model-name")
    parser.add_argument("--port", type=int)
    given, _ = parser.parse_known_args()
    VersionServer(given.model, name=given.served_model_name, port=given.port)
    threading.Event().wait()
