#!/usr/bin/env python3
"""Trains the weld defect model on rendered scenes and writes its bundle.

Needs the extras `agent` and `train` (LiteRT and TensorFlow, 2 GB), best in an environment of its own:

    pip install -e ".[agent,train]"

    python scripts/train_weld.py            # the shipped model: about half an hour on two cores
    python scripts/train_weld.py --quick    # the same way in two minutes, for a try; a poor model, written elsewhere
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the renderers are as many processes as there are cores

from platforms.manufacturing.training import bundle, network  # noqa: E402
from platforms.manufacturing.training.dataset import rendered  # noqa: E402
from platforms.manufacturing.weld_samples import Split  # noqa: E402

SHIPPED = ROOT / "platforms" / "manufacturing" / "models" / "weld_defects"


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the weld defect model.")
    parser.add_argument("--quick", action="store_true", help="few pictures, 2 epochs; the model is poor")
    parser.add_argument(
        "--out", type=Path, help="folder of the bundle (default: the shipped one, or a temporary one)"
    )
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "edgewright-weld")
    parser.add_argument("--scenes", type=int, default=1000, help="training scenes of 6 pictures (default 1000)")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.quick:
        options.scenes, options.epochs = min(options.scenes, 80), min(options.epochs, 2)
    out = options.out or (Path(tempfile.mkdtemp(prefix="weld-")) if options.quick else SHIPPED)

    data = rendered(Split.TRAIN, options.scenes, options.cache, options.workers)
    check = rendered(Split.VALIDATION, 16, options.cache, options.workers)
    calibration = rendered(Split.CALIBRATION, 32, options.cache, options.workers)
    started = time.monotonic()
    model = network.build(options.seed)
    logging.info("%d parameters", model.count_params())
    network.train(model, data, check, options.epochs, options.seed)
    tflite = network.to_int8(model, calibration)
    minutes = (time.monotonic() - started) / 60
    training = bundle.Training(options.scenes, options.epochs, options.seed, minutes, int(model.count_params()))
    report = bundle.write(out, tflite, training, test_scenes=20 if options.quick else 100)
    bundle.write_golden(out, network.jpeg)
    print(report)
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
