"""Converts a model to int8 and compares both: the one file of this folder with TensorFlow.

It is run as a script by the Python of the training environment, which need not have Edgewright, so it imports nothing
of it. A job comes as JSON on stdin, the outcome goes as lines of JSON to stdout: `{"error": …}` or what
`coordinator/quantize/report.py` reads, together. The last is about a file that somebody else made: reading it may end
the process, and nothing is lost then.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

RUNS = 30  # of each model for its latency
WARM_UP = 3


def main() -> int:
    job = json.load(sys.stdin)
    try:
        found = convert(job)
    except Exception as error:  # noqa: BLE001 - boundary of a process: whatever it is, the caller says it
        found = {"error": f"{type(error).__name__}: {error}"[:2000]}
    print(json.dumps(found), flush=True)  # noqa: T201
    if "error" in found:
        return 1
    print(json.dumps({"outputs_wanted": output_names(job["reference"])}))  # noqa: T201
    return 0


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Of a job: `source`, a SavedModel's folder or a .keras file; `pictures`; `rule`, as bundle.toml's [input];
    `reference`, the model that the bundle has; `int8` and `float`, the files to write."""
    import tensorflow as tf

    source = Path(job["source"])
    whole = _converter(tf, source).convert()
    Path(job["float"]).write_bytes(whole)
    before = _interpreter()(model_content=whole, num_threads=1)
    shape = [int(size) for size in before.get_input_details()[0]["shape"]]
    tensors = [_tensor(tf, path, job["rule"], shape) for path in job["pictures"]]
    converter = _converter(tf, source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _samples(tf, tensors, job["rule"], shape)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    small = converter.convert()
    Path(job["int8"]).write_bytes(small)
    after = _interpreter()(model_content=small, num_threads=1)
    first, first_ms = _answers(before, tensors)
    second, second_ms = _answers(after, tensors)
    names = [str(one["name"]) for one in after.get_output_details()]
    return {
        "tensorflow": tf.__version__,
        "input_shape": shape,
        "before": {"bytes": len(whole), **first_ms},
        "after": {"bytes": len(small), **second_ms},
        "outputs": [_agreement(name, [a[i] for a in first], [b[i] for b in second]) for i, name in enumerate(names)],
    }


def output_names(path: str) -> list[str]:
    """Of the model that the bundle has: its decoder may go by them. None where that cannot be read here."""
    try:
        return [str(one["name"]) for one in _interpreter()(model_path=path).get_output_details()]
    except (ValueError, RuntimeError):  # made for an accelerator, or for another runtime
        return []


def _interpreter() -> Any:
    """LiteRT's own where it is installed; TensorFlow is to lose its one."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        import tensorflow as tf

        return tf.lite.Interpreter
    return Interpreter


def _converter(tf: Any, source: Path) -> Any:
    if source.is_dir():
        return tf.lite.TFLiteConverter.from_saved_model(str(source))
    return tf.lite.TFLiteConverter.from_keras_model(tf.keras.models.load_model(source, compile=False))


# ---- pictures -----------------------------------------------------------------------------------


def _tensor(tf: Any, path: str, rule: dict[str, Any], shape: list[int]) -> Any:
    """A picture as the float model wants it; as agent/infer/preprocess.py prepares it for a frame."""
    nchw = rule["layout"] == "nchw"
    height, width = (shape[2], shape[3]) if nchw else (shape[1], shape[2])
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    image = tf.cast(image, tf.float32)
    if rule["resize"] == "letterbox":
        frame_height, frame_width = (int(size) for size in image.shape[:2])
        scale = min(width / frame_width, height / frame_height)
        inner = max(1, min(height, round(frame_height * scale))), max(1, min(width, round(frame_width * scale)))
        image = tf.image.resize(image, inner) - rule["fill"]
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        image = tf.image.pad_to_bounding_box(image, top, left, height, width) + rule["fill"]
    else:
        image = tf.image.resize(image, (height, width))
    image = tf.clip_by_value(tf.round(image), 0, 255)
    if rule["color"] == "bgr":
        image = image[..., ::-1]
    if rule["color"] == "gray":
        image = tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)
    return _placed(tf, _normalised(image, rule), nchw=nchw)


def _normalised(image: Any, rule: dict[str, Any]) -> Any:
    return (image - rule["mean"]) / rule["std"] if rule["std"] else image


def _placed(tf: Any, image: Any, *, nchw: bool) -> Any:
    image = tf.transpose(image, (2, 0, 1)) if nchw else image
    return tf.cast(image[None], tf.float32).numpy()


def _samples(tf: Any, tensors: list[Any], rule: dict[str, Any], shape: list[int]) -> Iterator[list[Any]]:
    """The pictures, and before them one with both ends of the range of a pixel: so that the input keeps all of it."""
    nchw = rule["layout"] == "nchw"
    height, width, channels = (shape[2], shape[3], shape[1]) if nchw else (shape[1], shape[2], shape[3])
    dark = tf.zeros((height, width // 2, channels))
    ends = tf.concat([dark, tf.fill((height, width - width // 2, channels), 255.0)], axis=1)
    yield [_placed(tf, _normalised(ends, rule), nchw=nchw)]
    for tensor in tensors:
        yield [tensor]


# ---- comparing ----------------------------------------------------------------------------------


def _answers(model: Any, tensors: list[Any]) -> tuple[list[list[Any]], dict[str, float]]:
    """Every output for every picture as real numbers, and how long a run takes on one thread."""
    model.allocate_tensors()
    (given, *_), outputs = model.get_input_details(), model.get_output_details()
    answers, took_ms = [], []
    for at, tensor in enumerate([*tensors[:1] * WARM_UP, *tensors]):
        model.set_tensor(given["index"], _stored(tensor, given))
        began = time.perf_counter()
        model.invoke()
        took_ms.append((time.perf_counter() - began) * 1000)
        if at >= WARM_UP:
            answers.append([_real(model.get_tensor(one["index"]), one) for one in outputs])
    for _ in range(RUNS - len(tensors)):
        began = time.perf_counter()
        model.invoke()
        took_ms.append((time.perf_counter() - began) * 1000)
    ordered = sorted(took_ms[WARM_UP:])
    p50, p95 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95))
    return answers, {"latency_ms_p50": round(p50, 3), "latency_ms_p95": round(p95, 3)}


def _stored(tensor: Any, details: dict[str, Any]) -> Any:
    import numpy as np

    scale, zero = details["quantization"]
    if not scale:
        return tensor.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(tensor / scale + zero), limits.min, limits.max).astype(details["dtype"])


def _real(tensor: Any, details: dict[str, Any]) -> Any:
    scale, zero = details["quantization"]
    return (tensor.astype("float32") - zero) * scale if scale else tensor.astype("float32")


def _agreement(name: str, before: list[Any], after: list[Any]) -> dict[str, Any]:
    """How alike the int8 model answers: the cosine of both answers, picture by picture, and the mean difference as a
    share of the range; of a list of scores also how often the greatest is the same."""
    import numpy as np

    cosines, differences, same = [], [], 0
    for one, other in zip(before, after, strict=True):
        a, b = one.ravel().astype("float64"), other.ravel().astype("float64")
        norm = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosines.append(float(a @ b) / norm if norm else float(np.array_equal(a, b)))
        differences.append(float(np.abs(a - b).mean()) / (float(np.ptp(a)) or 1.0))
        same += int(a.argmax() == b.argmax())
    scores = before[0].ndim == 2 and before[0].shape[1] > 1
    return {
        "name": name,
        "shape": [int(size) for size in before[0].shape],
        "cosine": float(np.mean(cosines)),
        "cosine_min": float(np.min(cosines)),
        "difference": float(np.mean(differences)),
        "top1": same / len(before) if scores else None,
    }


if __name__ == "__main__":
    sys.exit(main())
