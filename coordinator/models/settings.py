"""The `[models]` table of the coordinator."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from coordinator.evidence.settings import BackendKind
from runtime.ed25519 import KeyRefusedError, read_public
from schemas.bundles import NAME_MEANS, NAME_PATTERN
from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class ModelsTable:
    """How models are given out. Rates in bytes a second; 0 is no limit."""

    backend: BackendKind = BackendKind.DISK
    http_port: Annotated[int, Limit(ge=0, le=65535)] = 0  # 0: no HTTP
    http_host: Annotated[str, Limit(len_min=1, len_max=255)] = "127.0.0.1"
    connections_max: Annotated[int, Limit(ge=1, le=10_000)] = 256
    connections_client_max: Annotated[int, Limit(ge=1, le=10_000)] = 8
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    bytes_s_client_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    stall_s: Annotated[float, Limit(ge=1, le=600)] = 30.0
    blob_bytes_s_max: Annotated[int, Limit(ge=4096, lt=2**40)] = 4 * 1024 * 1024  # over MQTT
    blob_calls_max: Annotated[int, Limit(ge=1, le=32)] = 8  # at a time
    require_signature: bool = False
    trusted_keys: dict[str, str] = field(default_factory=dict)  # by name the public key: a PEM file, or base64

    def resolved(self, folder: Path) -> tuple["ModelsTable", list[str]]:
        """With each key as base64, where files are relative to `folder`; and every mistake."""
        keys, mistakes = {}, []
        for name, text in self.trusted_keys.items():
            if not re.fullmatch(NAME_PATTERN, name):
                mistakes.append(f"models.trusted_keys: {name[:80]!r} must be {NAME_MEANS}")
            try:
                keys[name] = read_public(text, folder).text
            except KeyRefusedError as error:
                mistakes.append(f"models.trusted_keys.{name}: {error}")
        if self.require_signature and not self.trusted_keys:
            mistakes.append("models.require_signature: name the keys whose signatures count in models.trusted_keys")
        return replace(self, trusted_keys=keys), mistakes
