"""Messages between the orchestrator and its helper process: length, JSON, and open files along with it."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

Message = dict[str, Any]


def send(channel: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    data = json.dumps(message).encode()
    socket.send_fds(channel, [struct.pack("=Q", len(data))], list(fds))
    channel.sendall(data)


def receive(channel: socket.socket) -> tuple[Message, list[int]]:
    """Raises EOFError if the other side is gone."""
    header, fds, _, _ = socket.recv_fds(channel, 8, 32)
    header += _exactly(channel, 8 - len(header))
    for fd in fds:
        os.set_inheritable(fd, False)
    return json.loads(_exactly(channel, struct.unpack("=Q", header)[0])), fds


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if not (part := channel.recv(min(size - len(parts), 1 << 20))):
            raise EOFError
        parts += part
    return bytes(parts)
