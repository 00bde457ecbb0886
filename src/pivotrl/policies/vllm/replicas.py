"""Several servers that draw as one: each request goes to one of them, and to another one when that is gone."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from pivotrl.policies.vllm.server import Server
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.endpoint import NoAnswer, wait_for

ROUTE = "route"
"""Key of a request that is not sent: requests with the same value go to the same server if they can."""
_MAX_UNEVEN = 8
"""Requests that a server may have under way beyond twice those of another one before it gets no more."""

_Body = Mapping[str, Any]
_Given = tuple[Server | None, str | NoAnswer]
"""Who answered, and what; nobody where all are out."""


class Replicas:
    """Takes the place of one :class:`pivotrl.protocols.endpoint.Endpoint` for requests for samples.

    A new route goes to the server that has the least to do, and stays there for the sake of its prefix cache unless
    that server falls behind. Several threads may ask.

    Args:
        servers: those that hold the same weights; the last one that is left is asked with all patience.
        is_held: whether a server still has the weights. It is asked after a server has drawn, as one that was started
            again meanwhile may have drawn from others under the same name.
    """

    def __init__(self, servers: Sequence[Server], is_held: Callable[[Server], bool]) -> None:
        self._servers, self._is_held = list(servers), is_held
        # Changed in the event loop of all endpoints alone, apart from what is added to `_out`.
        self._out: dict[Server, InputError | NoAnswer] = {}
        self._homes: dict[Any, Server] = {}
        self._load: Counter[Server] = Counter()
        """Requests that were given to a server and are not answered."""
        self._told: set[Server] = set()

    @property
    def base_url(self) -> str:
        return ", ".join(server.endpoint.base_url for server in self._servers)

    def post_all(self, path: str, bodies: Sequence[_Body], optional: Sequence[str] = ()) -> list[str | NoAnswer]:
        """See :meth:`pivotrl.protocols.endpoint.Endpoint.post_all`.

        Raises:
            InputError: as there, by the last server that is left; or it lost the weights while it drew.
        """
        if len(self._out) == len(self._servers):
            self._out.clear()
        found: dict[int, _Given] = {}
        while wanted := [place for place in range(len(bodies)) if place not in found]:
            given = wait_for(self._all([self._answer(path, bodies[place], optional) for place in wanted]))
            lost = {server for server in {who for who, _ in given if who} if not self._is_held(server)}
            for server in lost:
                self._out.setdefault(server, _lost(server))
            found |= {place: each for place, each in zip(wanted, given, strict=True) if each[0] not in lost}
        self._tell()
        return [found[place][1] for place in range(len(bodies))]

    async def _all(self, asking: Sequence[Coroutine[Any, Any, _Given]]) -> list[_Given]:
        tasks = [asyncio.ensure_future(each) for each in asking]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, path: str, body: _Body, optional: Sequence[str]) -> _Given:
        route, sent = body.get(ROUTE), {key: value for key, value in body.items() if key != ROUTE}
        while (server := self._chosen(route)) is not None:
            self._load[server] += 1
            try:
                answer = await self._ask(server, path, sent, optional)
            except InputError as error:
                self._out.setdefault(server, error)
            else:
                if answer is not None:
                    return server, answer
            finally:
                self._load[server] -= 1
        fault = list(self._out.values())[-1]
        if isinstance(fault, InputError):
            raise fault
        return None, fault

    def _chosen(self, route: Any) -> Server | None:
        able = [server for server in self._servers if server not in self._out]
        if not able:
            return None
        idlest = min(able, key=lambda server: self._load[server])
        home = self._homes.get(route)
        if home is None or home in self._out:
            self._homes[route] = idlest
            return idlest
        is_behind = self._load[home] > 2 * self._load[idlest] + _MAX_UNEVEN
        return idlest if is_behind else home

    async def _ask(self, server: Server, path: str, body: _Body, optional: Sequence[str]) -> str | NoAnswer | None:
        """None if the server is out, which is noted."""
        if self._has_others:
            answer = await server.hasty.answer(path, body, optional)
            if _unavailable(answer) is None:
                return answer
            if (fault := _unavailable(await server.brief.answer("models", None))) is not None:
                self._out.setdefault(server, fault)
                return None
        answer = await server.endpoint.answer(path, body, optional)
        fault = _unavailable(answer)
        if fault is None or self._has_others:  # one that is there, and busy for long, is not out
            return answer
        self._out.setdefault(server, fault)
        return None

    @property
    def _has_others(self) -> bool:
        return len(self._out) < len(self._servers) - 1

    def _tell(self) -> None:
        """Say once of each server that it is out, while others are left."""
        for server, fault in list(self._out.items()):
            if server not in self._told and len(self._out) < len(self._servers):
                self._told.add(server)
                warnings.warn(
                    f"the server at {server.endpoint.base_url} is out ({fault}). The others draw what it was asked for",
                    Notice,
                    stacklevel=3,
                )


def _unavailable(answer: str | NoAnswer) -> NoAnswer | None:
    return answer if isinstance(answer, NoAnswer) and answer.reason == "unavailable" else None


def _lost(server: Server) -> InputError:
    return InputError(
        f"the server at {server.endpoint.base_url} lost the weights while it drew, as when it is started again. What "
        "came before is kept; repeat the command"
    )
