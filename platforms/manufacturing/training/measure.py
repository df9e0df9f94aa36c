"""Runs the int8 file over rendered pictures. Technology: the LiteRT interpreter."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from platforms.manufacturing.weld_parts import FloatArray
from platforms.manufacturing.weld_samples import Sample
from platforms.manufacturing.weld_score import Found, decode_centerpoint

CONFIDENCE_MIN = 0.02
DETECTIONS_MAX = 60


class Int8Model:
    """The shipped kind of file: uint8 pixels in, three int8 maps out, told apart by their names."""

    def __init__(self, file: Path, threads: int = 1) -> None:
        self._interpreter = Interpreter(str(file), num_threads=threads)
        self._interpreter.allocate_tensors()
        self.input = self._interpreter.get_input_details()[0]
        self.outputs = {str(detail["name"]): detail for detail in self._interpreter.get_output_details()}

    def maps(self, image: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Real values of each output for (height, width, 3) uint8, without the batch axis."""
        self._interpreter.set_tensor(self.input["index"], image[None])
        self._interpreter.invoke()
        return {name: self._real(detail) for name, detail in self.outputs.items()}

    def _real(self, detail: dict[str, Any]) -> FloatArray:
        scale, zero_point = detail["quantization"]
        stored = self._interpreter.get_tensor(detail["index"])[0]
        return np.asarray((stored.astype(np.float32) - zero_point) * scale, np.float32)

    def find(self, image: NDArray[np.uint8]) -> Found:
        maps = self.maps(image)
        return decode_centerpoint(maps["heatmap"], maps["offset"], maps["size"], CONFIDENCE_MIN, DETECTIONS_MAX)

    def invoke_ms(self, runs: int = 100) -> float:
        """Median time of one invoke on this machine."""
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            self._interpreter.invoke()
            times.append(time.perf_counter() - started)
        return float(np.median(times) * 1000)


def found_in(model: Int8Model, samples: list[Sample]) -> list[Found]:
    """What the model finds in each sample."""
    return [model.find(sample.image) for sample in samples]
