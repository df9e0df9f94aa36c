"""An action that posts the event to a web address near by: HTTP, or HTTPS with the certificate checked."""

import asyncio
import http.client
import random
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from agent.actions.event import LocalEvent
from agent.actions.runner import ActionError, ActionTimeoutError
from runtime.backoff import Backoff
from runtime.config import secret

CONTENT_TYPE = "application/cloudevents+json"
_BUSY = (408, 425, 429)  # answers below 500 that ask to come again
_PAUSE = Backoff(first_s=0.3, max_s=5.0)


class _AgainError(Exception):
    """Worth another attempt."""


class WebhookRunner:
    """Posts from a thread of its own: a name that is looked up for long holds up nobody else."""

    def __init__(
        self, name: str, url: str, *, token_file: Path | None, ca_file: Path | None, retries: int, timeout_s: float
    ) -> None:
        self._name = name
        self._files = (token_file, ca_file)
        self._url = urlsplit(url)
        self._shown = f"{self._url.scheme}://{self._url.hostname}{self._url.path}"  # a query may hold a secret
        self._timeout_s = timeout_s
        self._retries = retries
        self._headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "edgewright"}
        self._tls: ssl.SSLContext | None = None
        self._is_open = False
        # Each attempt has its time for connecting and for each read; this is for a server that trickles.
        self.limit_s: float | None = (2 * timeout_s + _PAUSE.max_s) * (retries + 1)
        self._connection: http.client.HTTPConnection | None = None  # of the attempt under way
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"action-{name}")

    def open(self) -> None:
        """Reads token and certificate authority. Raises ConfigError, ActionError."""
        token_file, ca_file = self._files
        if token := secret(f"action {self._name}: token", token_file, ""):
            self._headers["Authorization"] = f"Bearer {token}"
        if self._url.scheme == "https":
            self._tls = tls_context(ca_file)
        self._is_open = True

    async def run(self, event: LocalEvent) -> str:
        if not self._is_open:
            self.open()
        body = event.json().encode()
        loop = asyncio.get_running_loop()
        for attempt in range(self._retries + 1):
            try:
                return await loop.run_in_executor(self._threads, self._post, body)
            except _AgainError as error:
                if attempt == self._retries:
                    kind = ActionTimeoutError if isinstance(error.__cause__, TimeoutError) else ActionError
                    raise kind(f"{self._shown}: {error} (attempt {attempt + 1})") from error
            await asyncio.sleep(_PAUSE.delay_s(attempt, random.random()))
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Breaks off an attempt under way: the process must not wait for it at its end."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has just ended by itself
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _post(self, body: bytes) -> str:
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        self._connection = connection
        target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        try:
            connection.request("POST", target, body, self._headers)
            status = connection.getresponse().status
        except ssl.SSLCertVerificationError as error:
            raise ActionError(f"{self._shown}: its certificate is not trusted: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _AgainError(f"{type(error).__name__}: {error}") from error
        finally:
            self._connection = None
            connection.close()
        if 200 <= status < 300:
            return f"answered {status}"
        if status >= 500 or status in _BUSY:
            raise _AgainError(f"answered {status}")
        raise ActionError(f"{self._shown}: answered {status}")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Raises ActionError when the authority's file cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise ActionError(f"ca_file: {ca_file} cannot be used: {error}") from error
