"""Fits a bundle to the tensors of an opened engine: what feeds it and what reads it."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.infer.bundle import Bundle
from agent.infer.decode import Decoder, build_decoder
from agent.infer.engine import TensorSpec
from agent.infer.preprocess import Preprocessor


@dataclass(frozen=True, slots=True)
class Fitted:
    preprocessor: Preprocessor  # for the capture thread
    decoder: Decoder  # for the thread that reads the raw outputs


def fit(bundle: Bundle, given: TensorSpec, returned: Sequence[TensorSpec]) -> Fitted:
    """Raises ModelError where the manifest's geometry, labels or decoder do not fit these tensors."""
    preprocessor = Preprocessor(bundle.input, given)
    decoder = build_decoder(
        bundle.output, returned, preprocessor.geometry, bundle.labels, bundle.label_offset, bundle.thresholds
    )
    return Fitted(preprocessor, decoder)
