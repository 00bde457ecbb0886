"""Refusals in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that is not answered.

    Args:
        message: what is wrong and what to do.
        param: the field of the request that it is about.
        code: a short stable name of the fault.
        retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self._type, "param": self.param, "code": self.code}}

    @property
    def _type(self) -> str:
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def not_supported(param: str, detail: str) -> Refused:
    """A field that would change the answer, and that this server cannot follow."""
    return Refused(f"{param} is not supported: {detail}", param=param, code="unsupported_parameter")
