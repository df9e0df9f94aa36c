"""The network, its loss, its training and its conversion to int8. Technology: TensorFlow is imported here only."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from platforms.manufacturing.training.dataset import DataSet
from platforms.manufacturing.training.targets import CLASSES, GRID_HEIGHT, GRID_WIDTH
from platforms.manufacturing.weld_samples import INPUT_HEIGHT, INPUT_WIDTH

log = logging.getLogger(__name__)
layers = tf.keras.layers

OUTPUTS = ("heatmap", "offset", "size")


def build(seed: int) -> Any:
    """A small backbone with one top-down step and a centre-point head.

    Plain convolutions where maps are large (quicker there than depthwise ones, above all to train on a CPU),
    MobileNetV2's inverted residuals (Sandler et al. 2018) behind.

    Input (1, INPUT_HEIGHT, INPUT_WIDTH, 3) in 0..1; outputs `heatmap`, `offset`, `size` at stride 8.
    """
    tf.keras.utils.set_random_seed(seed)
    pixels = layers.Input((INPUT_HEIGHT, INPUT_WIDTH, 3), name="pixels")
    x = _conv(pixels, 16, 3, 2)
    x = _conv(x, 24, 3, 2)
    x = _residual(x, 24)
    x = _conv(x, 48, 3, 2)
    x = _residual(x, 48)
    fine = _residual(x, 48)
    x = _inverted(fine, 72, 3, 2)
    x = _inverted(x, 72, 3, 1)
    x = _inverted(x, 72, 3, 1)
    coarse = layers.UpSampling2D(2)(_conv(x, 56, 1, 1))
    x = layers.Add()([coarse, _conv(fine, 56, 1, 1)])
    x = _separable(x, 64, 1)
    where = _separable(x, 48, 1)
    extent = _separable(x, 64, 1)
    heat = layers.Conv2D(CLASSES, 1, bias_initializer=tf.keras.initializers.Constant(-4.0))(where)
    heatmap = layers.Activation("sigmoid", name="heatmap")(heat)
    small = tf.keras.initializers.RandomNormal(stddev=0.005, seed=seed)
    offset = layers.Conv2D(
        2, 1, kernel_initializer=small, bias_initializer=tf.keras.initializers.Constant(0.5), name="offset"
    )(extent)
    size = layers.Conv2D(
        2, 1, kernel_initializer=small, bias_initializer=tf.keras.initializers.Constant(0.06), name="size"
    )(extent)
    return tf.keras.Model(pixels, {"heatmap": heatmap, "offset": offset, "size": size})


def _conv(x: Any, filters: int, kernel: int, stride: int) -> Any:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.98)(x))


def _depthwise(x: Any, stride: int) -> Any:
    x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.98)(x))


def _separable(x: Any, filters: int, stride: int) -> Any:
    return _conv(_depthwise(x, stride), filters, 1, 1)


def _residual(x: Any, filters: int) -> Any:
    return layers.Add()([x, _conv(x, filters, 3, 1)])


def _inverted(x: Any, filters: int, widen: int, stride: int) -> Any:
    """Inverted residual with a linear bottleneck."""
    y = _depthwise(_conv(x, widen * x.shape[-1], 1, 1), stride)
    y = layers.BatchNormalization(momentum=0.98)(layers.Conv2D(filters, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y


def loss_of(targets: Any, answers: dict[str, Any]) -> Any:
    """Penalty-reduced focal loss (CornerNet's, alpha 2, beta 4) plus L1 of centre and size relative to the box.

    Relative, because what counts is overlap: 2 pixels are much on a pore and little on a crack.
    """
    heat, weight = targets[..., :CLASSES], targets[..., CLASSES : 2 * CLASSES]
    offset, size = targets[..., 2 * CLASSES : 2 * CLASSES + 2], targets[..., 2 * CLASSES + 2 : 2 * CLASSES + 4]
    centre = targets[..., 2 * CLASSES + 4 :]
    p = tf.clip_by_value(answers["heatmap"], 1e-4, 1 - 1e-4)
    is_centre = tf.cast(heat >= 0.999, tf.float32)
    right = -is_centre * tf.math.log(p) * (1 - p) ** 2
    wrong = -(1 - is_centre) * (1 - heat) ** 4 * p**2 * tf.math.log(1 - p)
    objects = tf.maximum(tf.reduce_sum(centre), 1.0)
    focal = tf.reduce_sum((right + wrong) * weight) / objects
    cell = tf.constant([1 / GRID_WIDTH, 1 / GRID_HEIGHT])
    safe = tf.maximum(size, 0.01)
    moved = tf.abs(answers["offset"] - offset) * cell / safe
    grown = tf.abs(answers["size"] - size) / safe
    return focal + 1.5 * tf.reduce_sum(centre * (moved + grown)) / objects


def _augmented(image: Any, targets: Any) -> tuple[Any, Any]:
    """Mirrored either way, brighter or darker, more or less contrast, coloured a little."""
    image = tf.cast(image, tf.float32) / 255
    targets = tf.cast(targets, tf.float32)
    at = 2 * CLASSES
    if tf.random.uniform([]) < 0.5:
        image, targets = image[:, ::-1], targets[:, ::-1]
        targets = tf.concat([targets[..., :at], 1 - targets[..., at : at + 1], targets[..., at + 1 :]], axis=-1)
    if tf.random.uniform([]) < 0.5:
        image, targets = image[::-1], targets[::-1]
        targets = tf.concat(
            [targets[..., : at + 1], 1 - targets[..., at + 1 : at + 2], targets[..., at + 2 :]], axis=-1
        )
    gain = tf.random.uniform([], 0.75, 1.25) * tf.random.uniform([3], 0.95, 1.05)
    image = tf.clip_by_value((image - 0.4) * tf.random.uniform([], 0.85, 1.15) + 0.4, 0, 1) * gain
    return tf.clip_by_value(image, 0, 1), targets


def train(
    model: Any, data: DataSet, check: DataSet, epochs: int, seed: int, batch: int = 32, rate: float = 2e-3
) -> None:
    """AdamW with a cosine schedule; the model ends with the running average of its weights."""
    steps = len(data.images) // batch
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        rate / 10, epochs * steps - steps // 2, warmup_target=rate, warmup_steps=steps // 2, alpha=0.01
    )
    optimizer = tf.keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=5.0, use_ema=True, ema_momentum=0.995)
    pictures = (
        tf.data.Dataset.from_tensor_slices((data.images, data.targets))
        .shuffle(len(data.images), seed=seed)
        .map(_augmented, num_parallel_calls=2, deterministic=True)
        .batch(batch, drop_remainder=True)
        .prefetch(4)
    )
    held = tf.data.Dataset.from_tensor_slices((check.images, check.targets)).batch(batch)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function  # type: ignore[untyped-decorator]
    def checked(images: Any, targets: Any) -> Any:
        return loss_of(tf.cast(targets, tf.float32), model(tf.cast(images, tf.float32) / 255, training=False))

    for epoch in range(epochs):
        losses = [step(images, targets) for images, targets in pictures]
        last = epoch == epochs - 1
        if last:
            optimizer.finalize_variable_values(model.trainable_variables)
        held_losses = [checked(images, targets) for images, targets in held]
        log.info(
            "epoch %d of %d: loss %.3f, held out %.3f", epoch + 1, epochs,
            float(np.mean(losses)), float(np.mean(held_losses)),
        )  # fmt: skip


def to_int8(model: Any, calibration: DataSet) -> bytes:
    """The model as a full-integer TFLite file: uint8 pixels in as they are (scale 1/255, zero point 0), int8 out.

    Outputs are named `heatmap`, `offset`, `size`. The calibration pictures decide the ranges of the activations.
    """

    @tf.function(input_signature=[tf.TensorSpec((1, INPUT_HEIGHT, INPUT_WIDTH, 3), tf.float32, name="pixels")])  # type: ignore[untyped-decorator]
    def serve(pixels: Any) -> dict[str, Any]:
        answers = model(pixels, training=False)
        return {name: tf.identity(answers[name], name=name) for name in OUTPUTS}

    def pictures() -> Iterator[list[Any]]:
        shape = (1, INPUT_HEIGHT, INPUT_WIDTH, 3)
        ends = np.zeros(shape, np.float32)
        ends[:, :, : INPUT_WIDTH // 2] = 1.0
        yield [ends]  # both ends of the pixel range, so that the input's scale is 1/255
        for image in calibration.images:
            yield [image[None].astype(np.float32) / 255]

    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = pictures
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    return _with_named_outputs(bytes(converter.convert()))


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """A JPEG file of an RGB picture."""
    return bytes(tf.io.encode_jpeg(image, quality=80, chroma_downsampling=True).numpy())


def _with_named_outputs(tflite: bytes) -> bytes:
    """The converter calls the outputs Identity, Identity_1 …, in the order of OUTPUTS."""
    file = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite))
    graph = file.subgraphs[0]
    for index, name in zip(graph.outputs, OUTPUTS, strict=True):
        graph.tensors[index].name = name.encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))
