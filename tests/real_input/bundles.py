"""Bundles of the shared test models, made into a temporary folder."""

import re
from pathlib import Path

from agent.infer.bundle_maker import make_bundle
from tests.assets import ASSETS

COCO_SSD = ASSETS / "models" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
YOLO_224 = ASSETS / "models" / "yolov8n_full_integer_quant_224.tflite"


def coco_names() -> list[str]:
    """COCO's 80 class names in order."""
    text = (ASSETS / "labels" / "coco" / "config.yaml").read_text(encoding="utf-8")
    return re.findall(r"^  \d+: (.+)$", text, flags=re.MULTILINE)


def coco_ssd(folder: Path, *, confidence: float = 0.5) -> Path:
    """The SSD with the detection post-process op; its labels are embedded."""
    make_bundle(COCO_SSD, folder / "coco_ssd", confidence=confidence)
    return folder / "coco_ssd"


def yolo_224(folder: Path, *, confidence: float = 0.3) -> Path:
    """YOLOv8n at 224 x 224, int8 in and out."""
    make_bundle(YOLO_224, folder / "yolo_224", labels=coco_names(), confidence=confidence)
    return folder / "yolo_224"
