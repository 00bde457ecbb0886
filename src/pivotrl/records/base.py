"""The base of every record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2
"""1: episodes without a name of their own, and profiles without numbered samples."""


class Record(BaseModel):
    """A frozen record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def key(self) -> str:
        """The record's key, unique within its file.

        Raises:
            NotImplementedError: records of this kind have no file of their own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no key")
