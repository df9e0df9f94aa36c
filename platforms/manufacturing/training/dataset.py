"""The rendered data set, rendered once and kept as arrays in a folder. Driver: processes and files."""

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.training.targets import targets_of
from platforms.manufacturing.weld_parts import FloatArray
from platforms.manufacturing.weld_samples import FRAMES_PER_SCENE, Split, scene_samples

log = logging.getLogger(__name__)

Rendered = tuple[NDArray[np.uint8], NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """images: (n, INPUT_HEIGHT, INPUT_WIDTH, 3) uint8; targets: (n, GRID_HEIGHT, GRID_WIDTH, CHANNELS) float16."""

    images: NDArray[np.uint8]
    targets: NDArray[np.float16]


def rendered(split: Split, scenes: int, folder: Path, workers: int) -> DataSet:
    """The split's first scenes, from the folder where they have been rendered before."""
    folder.mkdir(parents=True, exist_ok=True)
    images_at = folder / f"{split.name.lower()}-{scenes}-images.npy"
    targets_at = folder / f"{split.name.lower()}-{scenes}-targets.npy"
    if not (images_at.exists() and targets_at.exists()):
        log.info("rendering %d pictures of split %s", scenes * FRAMES_PER_SCENE, split.name)
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_render, [(split, scene) for scene in range(scenes)], chunksize=8))
        np.save(images_at, np.concatenate([part[0] for part in parts]))
        np.save(targets_at, np.concatenate([part[1] for part in parts]))
    return DataSet(np.load(images_at), np.load(targets_at))


def _render(task: tuple[Split, int]) -> Rendered:
    samples = scene_samples(*task)
    targets: list[FloatArray] = [targets_of(sample) for sample in samples]
    return np.stack([sample.image for sample in samples]), np.stack(targets).astype(np.float16)
