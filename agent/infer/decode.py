"""Turns a model's raw outputs into detections: chooses the head a bundle names and builds it once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.infer.detections import Detections
from agent.infer.engine import Tensor, TensorSpec
from agent.infer.heads import anomaly, centerpoint, classification, ssd_postprocess, ssd_raw, yolo
from agent.infer.heads.base import Surroundings, surroundings
from agent.infer.preprocess import Geometry, Placement
from agent.infer.reader import Reader
from agent.infer.thresholds import Thresholds


class Decoder(Protocol):
    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        """Detections in frame pixels, clipped to the frame, most confident first.

        `outputs` are the engine's tensors in the order and with the specs the decoder was built for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """How one kind of head reads its options and is built."""

    read_options: Callable[[Reader], Any]
    build: Callable[[Any, Surroundings], Decoder]


HEADS: Mapping[str, Head] = {
    ssd_postprocess.NAME: Head(ssd_postprocess.read_options, ssd_postprocess.SsdPostprocess),
    ssd_raw.NAME: Head(ssd_raw.read_options, ssd_raw.SsdRaw),
    yolo.NAME: Head(yolo.read_options, yolo.Yolo),
    classification.NAME: Head(classification.read_options, classification.Classification),
    centerpoint.NAME: Head(centerpoint.read_options, centerpoint.CenterPoint),
    anomaly.NAME: Head(anomaly.read_options, anomaly.Anomaly),
}


@dataclass(frozen=True, slots=True)
class OutputRule:
    """The head by name, and its options as the head itself read them."""

    decoder: str
    options: Any


def read_output_rule(reader: Reader) -> OutputRule:
    decoder = reader.choice("decoder", tuple(HEADS))
    options = HEADS[decoder].read_options(reader)
    reader.finish()
    return OutputRule(decoder, options)


def build_decoder(
    rule: OutputRule,
    outputs: Sequence[TensorSpec],
    geometry: Geometry,
    labels: tuple[str, ...],
    label_offset: int,
    thresholds: Thresholds,
) -> Decoder:
    """The decoder for these outputs. Raises ModelError when labels, options and tensors do not fit one another."""
    around = surroundings(outputs, geometry, labels, label_offset, thresholds)
    return HEADS[rule.decoder].build(rule.options, around)
