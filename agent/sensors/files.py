"""CSV: one file replayed, or a folder in which each new file is read whole and then put away.

A first line of names is recognised by its being no numbers. A cell that is empty or no number is a missing value.
Files of a folder are read in the order of their names once they have stopped growing; a name that begins with a dot
or ends with .tmp or .part is being written by somebody.
"""

import asyncio
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent.sensors.parse import Block, PayloadError, columns_of, row_of
from agent.sensors.reader import SensorError, Sink
from agent.sensors.settings import After, SensorConfig

ROWS = 4096  # read at a time, at most
PIECE_S = 0.2  # of a replay in real time: so much is handed on at once
LOOK_S = 0.5  # a folder is looked at this often
DONE, BAD = "done", "bad"
UNFINISHED = (".tmp", ".part")


class FileReader:
    """`path` is the file or the folder."""

    lossless = True

    def __init__(self, config: SensorConfig) -> None:
        self._config = config
        self._path = Path(config.path)
        self._sizes: dict[Path, int] = {}

    async def run(self, sink: Sink) -> None:
        try:
            if self._path.is_dir():
                await self._watch(sink)
            else:
                await self._replay(sink, self._path, realtime=self._config.realtime)
        except OSError as error:
            raise SensorError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        except (PayloadError, csv.Error, UnicodeDecodeError) as error:
            raise SensorError(f"{self._path}: {error}", hint="correct the file, or channels.column") from error

    async def _watch(self, sink: Sink) -> None:
        sink.connected()
        while True:
            for path in await asyncio.to_thread(self._complete):
                sink.break_off()
                try:
                    await self._replay(sink, path, realtime=False)
                except (PayloadError, csv.Error, UnicodeDecodeError) as error:
                    sink.refused(f"{path.name}: {error}")
                    await asyncio.to_thread(self._put_away, path, BAD)
                else:
                    await asyncio.to_thread(self._put_away, path, DONE)
            await asyncio.sleep(LOOK_S)

    def _complete(self) -> list[Path]:
        """Files that have the size they had at the last look."""
        sizes = {
            path: path.stat().st_size
            for path in sorted(self._path.iterdir())
            if path.is_file() and not path.name.startswith(".") and path.suffix not in UNFINISHED
        }
        before, self._sizes = self._sizes, sizes
        return [path for path, size in sizes.items() if size and before.get(path) == size]

    def _put_away(self, path: Path, where: str) -> None:
        if where == DONE and self._config.after is After.DELETE:
            path.unlink()
            return
        folder = path.parent / where
        folder.mkdir(exist_ok=True)
        path.replace(folder / path.name)

    async def _replay(self, sink: Sink, path: Path, *, realtime: bool) -> None:
        """As fast as those who look at the windows are, or as it was recorded."""
        rate_hz = self._config.rate_hz
        rows = max(1, min(ROWS, round(PIECE_S * rate_hz))) if realtime else ROWS
        began_s, count = time.monotonic(), 0
        pieces = _pieces(path, self._config, rows)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            if not count:
                sink.connected()
            count += len(piece)
            at_s = began_s + count / rate_hz
            if realtime:
                await asyncio.sleep(at_s - time.monotonic())
            await sink.take(piece, at_s=at_s)


def _pieces(path: Path, config: SensorConfig, rows: int) -> Iterator[Block]:
    """The file in blocks of so many rows. Raises PayloadError, csv.Error, UnicodeDecodeError, OSError."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, delimiter=config.separator)
        first = next(lines, None)
        if first is None:
            raise PayloadError("the file is empty")
        columns, is_header = columns_of(first, config.channels)
        if max(columns) >= len(first):
            raise PayloadError(f"column {max(columns)} is wanted, and a line has {len(first)}")
        gathered = [] if is_header else [row_of(first, columns)]
        for line in lines:
            if line:
                gathered.append(row_of(line, columns))
            if len(gathered) >= rows:
                yield np.array(gathered, np.float64)
                gathered = []
        if gathered:
            yield np.array(gathered, np.float64)
