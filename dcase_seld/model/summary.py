"""What a network is made of: layers, shapes, parameters, multiply-adds, memory of a training step.

The network runs on torch's meta device, which computes shapes and no numbers: the full size takes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcase_seld.core.task import Task
from dcase_seld.model.config import CrnnConfig, SeldConfig
from dcase_seld.model.network import SeldNetwork, build_model
from dcase_seld.model.types import ModelInput, SeldOutput, Tokens
from dcase_seld.model.weights import count_parameters

PARTS = {
    "frontend": "front end",
    "encoder": "encoder",
    "conformer": "Conformer layers",
    "fusion": "Cross-Modal Conformer",
    "head": "head",
}
"""Part of a SeldNetwork → what readers call it."""


@dataclass(frozen=True)
class Layer:
    """One row of a summary."""

    name: str  # path of the module in the network, or of the part
    kind: str  # class of the module
    shape: tuple[int, ...]  # shape of its output for one batch, () where it has several outputs or none
    parameters: int  # number of weights
    multiply_adds: int  # of matrix products and convolutions in a forward pass of one clip


@dataclass(frozen=True)
class Summary:
    """A network's layers and costs."""

    layers: tuple[Layer, ...]  # modules in the order in which they run, to the depth asked for
    parts: tuple[Layer, ...]  # the network's parts, as `PARTS` names them
    parameters: int  # number of weights
    multiply_adds: int  # of a forward pass of one clip
    clips: int  # clips of the training step whose memory is stated
    weights_bytes: int  # weights, gradients and AdamW's two moments in float32
    activations_bytes: int  # what the forward pass keeps for the backward pass, in float32

    @property
    def training_bytes(self) -> int:
        """Memory of a training step: weights, their gradients and moments, and activations."""
        return self.weights_bytes + self.activations_bytes


def summarise(
    config: SeldConfig | CrnnConfig,
    task: Task,
    *,
    clips: int = 8,
    sound_tokens: int = 1,
    video_frames: int = 5,
    tokens_per_frame: int = 577,
    depth: int = 3,
) -> Summary:
    """Return the summary of the network that `config` describes.

    Args:
        config: the network.
        task: what it is made for.
        clips: windows of the training step.
        sound_tokens: tokens of a window of each sound encoder.
        video_frames: video frames of a window whose tokens it reads.
        tokens_per_frame: tokens per video frame.
        depth: levels of modules to list.
    """
    model = build_model(config, task).to("meta").train()
    one, batch = (_inputs(model, count, sound_tokens, video_frames, tokens_per_frame) for count in (1, clips))
    counter = FlopCounterMode(display=False)
    shapes: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    names = {module: name for name, module in model.named_modules()}
    hooks = [
        module.register_forward_hook(lambda module, _, out: shapes.append((names[module], module, _shape(out))))
        for name, module in model.named_modules()
        if name and name.count(".") < max(depth, 2)  # the parts need their layers, listed or not
    ]
    with counter, torch.no_grad():
        model(one)
    for hook in hooks:
        hook.remove()
    counts = counter.get_flop_counts()

    def multiply_adds(name: str) -> int:
        return sum(counts.get(f"{type(model).__name__}.{name}".rstrip("."), {}).values()) // 2

    def row(name: str, label: str, module: nn.Module, shape: tuple[int, ...]) -> Layer:
        return Layer(label, type(module).__name__, shape, count_parameters(module), multiply_adds(name))

    called = [(name, module, shape) for name, module, shape in shapes if name]
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    layers = [row(name, name, module, shape) for name, module, shape in sorted(called, key=lambda r: order[r[0]])]
    own = {name: shape for name, _, shape in called}
    parts = []
    listed = [(name, label, getattr(model, name)) for name, label in PARTS.items()]
    listed = [
        (f"{name}.{key}", f"{label} ({key})", layer)
        for name, label, module in listed
        for key, layer in (module.items() if isinstance(module, nn.ModuleDict) else [("", module)])
    ]
    for name, label, module in (
        (name.rstrip("."), label.removesuffix(" ()"), module) for name, label, module in listed
    ):
        # A list of layers is not called itself: its cost is the sum of theirs, its output the last one's.
        inside = [
            layer
            for layer in layers
            if layer.name.startswith(name + ".") and layer.name.count(".") == name.count(".") + 1
        ]
        if isinstance(module, nn.ModuleList) and len(module):
            total = sum(layer.multiply_adds for layer in inside)
            parts.append(Layer(label, "ModuleList", inside[-1].shape, count_parameters(module), total))
        elif module is not None and not isinstance(module, nn.ModuleList):
            parts.append(
                row(name, label, module, own.get(name, one.features.shape if one.features is not None else ()))
            )
    parameters = count_parameters(model)
    return Summary(
        tuple(layer for layer in layers if layer.name.count(".") < depth),
        tuple(parts),
        parameters,
        multiply_adds(""),
        clips,
        4 * 4 * parameters,
        _saved_bytes(model, batch),
    )


def _inputs(model: SeldNetwork, clips: int, sound_tokens: int, video_frames: int, tokens_per_frame: int) -> ModelInput:
    """Return inputs without numbers, features in place of waveforms."""
    frames = model.frontend.frames(model.task.window_samples)
    features = torch.empty(clips, len(model.frontend.channels), frames, model.config.frontend.mels, device="meta")
    tokens = {}
    for name, one in model.config.fusion.items():
        shape = (
            (clips, video_frames, tokens_per_frame, one.width)
            if name in model.sees
            else (clips, sound_tokens, one.width)
        )
        mask = torch.ones(clips, video_frames, dtype=torch.bool, device="meta") if name in model.sees else None
        tokens[name] = Tokens(torch.empty(shape, device="meta"), mask)  # type: ignore[arg-type]
    return ModelInput(features=features, tokens=tokens)


def _shape(output: Any) -> tuple[int, ...]:
    if isinstance(output, SeldOutput):
        return tuple(output.distance.shape)
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _saved_bytes(model: SeldNetwork, inputs: ModelInput) -> int:
    """Return the bytes that a forward pass and the loss keep for the backward pass, weights and inputs left out."""
    given = [*model.parameters(), *model.buffers()]
    for tensors in (inputs.features, *(part for one in inputs.tokens.values() for part in one)):
        given += [] if tensors is None else [tensors]
    known = {tensor.untyped_storage()._cdata for tensor in given}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(inputs)
    loss_bytes: int = 4 * 4 * output.distance.numel()  # of the target of every track, which has 4 float32 fields
    return loss_bytes + sum(t.untyped_storage().nbytes() for storage, t in kept.items() if storage not in known)
