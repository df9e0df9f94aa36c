"""A TCP proxy as bad links are: cut, refuse, stall, half-open, slow. In a thread of its own, or a process:
`python -m tests.proxy TARGET_PORT`, which prints its port and then takes one command a line on stdin.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 64 * 1024
UP, DOWN = "up", "down"  # towards the broker, towards the client
CONNECT, PUBLISH, PUBACK = 1, 3, 4  # MQTT packet types
OnPacket = Callable[[str, int], None]


class Packets:
    """Follows the framing of MQTT through arbitrary cuts: the type of each packet that begins."""

    def __init__(self) -> None:
        self._head: bytearray = bytearray()
        self._skip = 0

    def types(self, data: bytes) -> list[int]:
        """The packet types whose fixed header is complete with these bytes."""
        found, at = [], 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip, at = self._skip - step, at + step
                continue
            self._head.append(data[at])
            at += 1
            if len(self._head) > 1 and (self._head[-1] < 128 or len(self._head) == 5):
                found.append(self._head[0] >> 4)
                self._skip = sum((byte & 127) << (7 * n) for n, byte in enumerate(self._head[1:]))
                self._head.clear()
        return found


class Proxy:
    """Listens on `port` and passes to `target_port`, both on loopback. Methods may be called from any thread."""

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.port = port
        self.connections_total = 0
        self.bytes_total = 0
        self.on_packet: OnPacket | None = None  # (direction, MQTT packet type), called before the bytes are passed on
        self._target_port = target_port
        self._delay_s = 0.0
        self._bytes_s = 0.0
        self._swallow: frozenset[str] = frozenset()
        self._stalled = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._do(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- what the link does ---------------------------------------------------------------------

    def forward(self) -> None:
        """A good link again: listens, passes both ways, at full speed."""

        async def heal() -> None:
            if self._stalled or self._swallow:
                self._cut()  # what was swallowed would be missing from the middle of a stream
            self._stalled, self._swallow, self._delay_s, self._bytes_s = False, frozenset(), 0.0, 0.0
            await self._listen()

        self._do(heal)

    def cut(self) -> None:
        """Resets every connection there is; new ones are taken."""
        self._run(self._cut)

    def refuse(self) -> None:
        """Resets every connection and listens no more: connection refused."""

        async def shut() -> None:
            server, self._server = self._server, None
            if server is not None:
                server.close()
            self._cut()

        self._do(shut)

    def stall(self) -> None:
        """Connections stay and new ones are taken, but nothing is read: the sender's buffers fill up."""
        self._run(lambda: setattr(self, "_stalled", True))

    def half_open(self, *directions: str) -> None:
        """Swallows silently what goes `up`, `down` or, without arguments, both ways."""
        self._run(lambda: setattr(self, "_swallow", frozenset(directions or (UP, DOWN))))

    def slow(self, *, delay_s: float = 0.0, bytes_s: float = 0.0) -> None:
        """Each piece waits `delay_s`; at most `bytes_s` a second pass in each direction, 0 is no limit."""
        self._run(lambda: self.__dict__.update(_delay_s=delay_s, _bytes_s=bytes_s))

    def close(self) -> None:
        """Ends the connections and the thread."""
        if not self._thread.is_alive():
            return
        self.refuse()

        async def end() -> None:
            await asyncio.sleep(0.05)  # what was accepted just before
            self._cut()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    # ---- in the loop ----------------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(what(), self._loop).result(10.0)  # type: ignore[arg-type]

    def _run(self, what: Callable[[], object]) -> None:
        async def call() -> None:
            what()

        self._do(call)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_total += 1
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        for direction, source, sink in ((UP, reader, up_writer), (DOWN, up_reader, writer)):
            self._writers.add(sink)
            task = self._loop.create_task(self._pump(direction, source, sink), name=f"proxy.{direction}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: self._end(writer, up_writer))

    def _end(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, direction: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        packets = Packets()
        with suppress(OSError):
            while True:
                while self._stalled:
                    await asyncio.sleep(0.02)
                data = await source.read(CHUNK_BYTES)
                if not data:
                    while direction in self._swallow:  # the end of a connection is swallowed like all else
                        await asyncio.sleep(0.02)
                    return
                if self.on_packet is not None:
                    for kind in packets.types(data):
                        self.on_packet(direction, kind)
                if self._delay_s or self._bytes_s:
                    await asyncio.sleep(self._delay_s + (len(data) / self._bytes_s if self._bytes_s else 0.0))
                if direction in self._swallow:
                    continue
                self.bytes_total += len(data)
                sink.write(data)
                await sink.drain()


def main() -> None:
    """Commands: forward, cut, refuse, stall, half_open [up|down], slow DELAY_S BYTES_S; each is answered."""
    with Proxy(int(sys.argv[1])) as proxy:
        print(proxy.port, flush=True)
        for line in sys.stdin:
            match line.split():
                case ["forward" | "cut" | "refuse" | "stall" as name]:
                    getattr(proxy, name)()
                case ["half_open", *directions]:
                    proxy.half_open(*directions)
                case ["slow", delay_s, bytes_s]:
                    proxy.slow(delay_s=float(delay_s), bytes_s=float(bytes_s))
                case _:
                    print(json.dumps({"error": f"no such command: {line.strip()}"}), flush=True)
                    continue
            print("ok", flush=True)


if __name__ == "__main__":
    main()
