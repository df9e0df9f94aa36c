"""Configuration files: TOML to a frozen dataclass, with every mistake in one report.

Secrets stand in files or in the environment, never in the configuration itself:
`password_file = "/run/secrets/mqtt"` or `password_env = "EDGE_MQTT_PASSWORD"`.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from runtime.errors import ConfigError
from runtime.mqtt import BrokerAddress
from schemas.shape import Limit, ShapeError, read

T = TypeVar("T")

CONFIG_BYTES_MAX = 1024 * 1024
ROOT = Limit(pattern=r"[^#+/\s]+(/[^#+/\s]+)*", means="levels without # or +", len_max=200)


def load(cls: type[T], path: Path) -> T:
    """The file at `path` as a `cls`. Raises ConfigError: unreadable, no TOML, or the list of all mistakes."""
    try:
        return read(cls, load_table(path), strict=True)
    except ShapeError as error:
        raise mistakes_error(path, error.mistakes) from error


def load_table(path: Path) -> dict[str, Any]:
    """What the TOML file at `path` says. Raises ConfigError: unreadable, or no TOML."""
    try:
        size = path.stat().st_size
        if size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: {size} bytes is no configuration; at most {CONFIG_BYTES_MAX}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="give --config FILE") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # beside its own error, tomllib lets int() and the stack speak
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def mistakes_error(path: Path, mistakes: list[str]) -> ConfigError:
    """One error that lists every mistake on a line of its own."""
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    return ConfigError(f"{path}: {count}\n" + "\n".join(f"  {line}" for line in mistakes))


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """How to reach one MQTT broker, and how to prove who we are."""

    host: Annotated[str, Limit(len_min=1, len_max=253)] = "127.0.0.1"
    port: Annotated[int, Limit(ge=1, le=65535)] = 1883
    username: str = ""  # empty: anonymous, or the certificate says who we are
    password_file: Path | None = None  # a file that holds the password and nothing else
    password_env: str = ""  # or the environment variable that holds it
    tls: bool = False
    ca_file: Path | None = None  # the broker's certificate authority; unset: the system's
    cert_file: Path | None = None  # our own certificate and key, for mutual TLS
    key_file: Path | None = None
    keepalive_s: Annotated[int, Limit(ge=5, le=3600)] = 20  # a dead link is noticed after 1.5 times this

    def address(self, table: str = "broker") -> BrokerAddress:
        """With the password read from where it is kept. Raises ConfigError, naming keys of `table`."""
        for name, file in (("ca_file", self.ca_file), ("cert_file", self.cert_file), ("key_file", self.key_file)):
            if file is not None and not file.is_file():
                raise ConfigError(f"{table}.{name}: {file} does not exist")
            if file is not None and not self.tls:
                raise ConfigError(f"{table}.{name}: is given, but {table}.tls is false: nothing would be encrypted")
        return BrokerAddress(
            self.host,
            self.port,
            self.username,
            secret(f"{table}.password", self.password_file, self.password_env),
            self.tls,
            self.ca_file,
            self.cert_file,
            self.key_file,
            self.keepalive_s,
        )


@dataclass(frozen=True, slots=True)
class BrokerConfig(EndpointConfig):
    """The `[broker]` table: the broker, and the root of all topics on it."""

    topic_root: Annotated[str, ROOT] = "edge/v1"


def secret(what: str, file: Path | None, variable: str) -> str:
    """A secret from its file or environment variable, "" when neither is named. Raises ConfigError."""
    if file is not None:
        try:
            value = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"{what}_file: {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigError(f"{what}_file: {file} is not UTF-8 text") from None  # the cause would show the secret
        if not value:
            raise ConfigError(f"{what}_file: {file} is empty")
        return value
    if variable:
        value = os.environ.get(variable, "")
        if not value:
            raise ConfigError(f"{what}_env: the environment has no {variable}, or it is empty")
        return value
    return ""
