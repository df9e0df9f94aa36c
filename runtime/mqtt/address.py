"""Where a broker is and how to prove who we are."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from runtime.mqtt.errors import BrokerAuthError


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and how to prove who we are. `password` is never shown."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 20

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """None where nothing is encrypted. Raises BrokerAuthError when the certificate files cannot be used."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:
            raise BrokerAuthError(
                f"{self}: the certificate files cannot be used: {error}",
                hint="check broker.ca_file, broker.cert_file and broker.key_file",
            ) from error
        return context
