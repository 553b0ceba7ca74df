"""Embeddings of any exported ONNX model behind the SemanticEncoder protocol, by onnxruntime."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dcase_seld.core.config import refuse_no_weights
from dcase_seld.core.errors import SeldError, first_line, listing
from dcase_seld.core.reading import read_bytes
from dcase_seld.pretrained.catalogue import find_model, has_random_weights, known_model, require_package
from dcase_seld.pretrained.encoder import (
    Gives,
    LogMelConfig,
    OnnxTokensConfig,
    QuantisationConfig,
    YamnetTokensConfig,
    centred_windows,
)
from dcase_seld.pretrained.transformers_models import ready_torchaudio

_INTEGERS: dict[str, type[np.integer[Any]]] = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
}

_FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class OnnxEncoder:
    """A frozen ONNX model: stereo sound → one embedding per patch of its mono sum.

    The last patch is completed with zeros; a clip of S seconds has 1 + ceil((S - patch) / hop) patches. Centred ones
    are round(S / hop), patch k around (k + 1/2) S / K.
    """

    gives: Gives = "sound"
    tokens = 0

    def __init__(self, config: OnnxTokensConfig, input_rate: int) -> None:
        """Load the model.

        Args:
            config: which file, and how it is fed.
            input_rate: samples per second of the sound that encode() gets.

        Raises:
            SeldError: onnxruntime or the file is missing, or the file has no such input or output.
        """
        self.config, self.input_rate = config, input_rate
        path = Path(config.path)
        self._session, self._input, self._output = _open(path, config)
        self.fingerprint = _fingerprint(path)
        self.random_weights = has_random_weights(path)
        self.parameters = count_parameters(read_bytes(path, 2**31, "Give the .onnx file."))
        if config.log_mel is None:
            self.patch = round(config.patch_s * config.sample_rate)
        else:
            frames = round(config.patch_s * config.sample_rate / config.log_mel.hop)
            self.patch = (frames - 1) * config.log_mel.hop + config.log_mel.window
        self.hop = max(1, round(config.hop_s * config.sample_rate))
        self.dimension = int(self._run(self._prepare(torch.zeros(1, self.patch))).shape[-1])

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Tensor:
        """Return (B, K, D) float32, one embedding per patch of stereo sound (B, 2, S) in [-1, 1]."""
        ready_torchaudio()
        from torchaudio.functional import resample

        mono = resample(batch.to("cpu", torch.float32).mean(dim=1), self.input_rate, self.config.sample_rate)
        if self.config.centred:
            patches = centred_windows(mono, max(1, round(mono.shape[-1] / self.hop)), self.patch)
        else:
            count = 1 + math.ceil(max(0, mono.shape[-1] - self.patch) / self.hop)
            padded = functional.pad(mono, (0, max(0, (count - 1) * self.hop + self.patch - mono.shape[-1])))
            patches = padded.unfold(-1, self.patch, self.hop)[:, :count]
        embedded = torch.from_numpy(self._run(self._prepare(patches.reshape(-1, self.patch))))
        return embedded.reshape(*patches.shape[:2], -1)

    def _prepare(self, patches: Tensor) -> npt.NDArray[Any]:
        """Return what the model takes of mono patches (n, samples): waveform or log-mel, quantised where configured.

        Raises:
            SeldError: the model takes another shape, or integers without a quantisation.
        """
        config, wanted = self.config, self._input
        features = patches if config.log_mel is None else log_mel(patches, config.log_mel, config.sample_rate)
        values = features.numpy()
        inner = [size for size in wanted.shape[1:] if isinstance(size, int) and size != 1]
        if [size for size in values.shape[1:] if size != 1] != inner and len(inner) == len(wanted.shape) - 1:
            raise SeldError(
                f"{config.path}: its input {wanted.name!r} takes {wanted.shape}, but a patch gives {values.shape[1:]}.",
                "Set `patch_s` and `log_mel` to what the model was trained on.",
            )
        shape = [size if isinstance(size, int) else -1 for size in wanted.shape[1:]]
        if shape.count(-1) > 1:
            shape = list(values.shape[1:])
        try:
            values = values.reshape(len(values), *shape)
        except ValueError as error:
            raise SeldError(
                f"{config.path}: its input {wanted.name!r} takes {wanted.shape}, but a patch gives {values.shape[1:]}.",
                "Set `patch_s` and `log_mel` to what the model was trained on.",
            ) from error
        if wanted.type in _FLOATS:
            return values.astype(_FLOATS[wanted.type])
        quantisation, kind = config.input_quantisation, _INTEGERS.get(wanted.type)
        if quantisation is None or kind is None:
            raise SeldError(
                f"{config.path}: its input {wanted.name!r} takes {wanted.type}.",
                "Set `input_quantisation: {scale: …, zero_point: …}` as the model's author states.",
            )
        integers = np.round(values / quantisation.scale) + quantisation.zero_point
        limits = np.iinfo(kind)
        return np.clip(integers, limits.min, limits.max).astype(kind)

    def _run(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return (n, D), what the model says of prepared patches; axes between the first and the last are averaged.

        As many threads as PyTorch has for one operation share them.
        """
        fixed = self._input.shape[0]
        step = fixed if isinstance(fixed, int) and fixed > 0 else self.config.batch

        def run(start: int) -> npt.NDArray[Any]:
            part = values[start : start + step]
            short = step - len(part) if isinstance(fixed, int) else 0
            if short > 0:
                part = np.concatenate([part, np.repeat(part[-1:], short, axis=0)])
            try:
                answer = np.asarray(self._session.run([self._output], {self._input.name: part})[0])
            except Exception as error:  # onnxruntime's own exceptions share no base class but this
                raise self._damaged(f"fails when it runs: {first_line(error)}") from error
            if answer.ndim < 2 or len(answer) != len(part) or not answer.size or answer.dtype.kind not in "fiub":
                raise self._damaged(f"answers {len(part)} patches with {answer.shape} of {answer.dtype}")
            return answer[: len(part) - max(short, 0)]

        starts = range(0, len(values), step)
        threads = min(torch.get_num_threads(), len(starts))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(run, starts))
        else:
            parts = [run(start) for start in starts]
        result = np.concatenate(parts).astype(np.float32)
        if (quantisation := self.config.output_quantisation) is not None:
            result = (result - quantisation.zero_point) * np.float32(quantisation.scale)
        if not np.isfinite(result).all():
            raise self._damaged("answers with numbers that are none")
        averaged: npt.NDArray[np.float32] = result.reshape(len(result), -1, result.shape[-1]).mean(axis=1)
        return averaged

    def _damaged(self, problem: str) -> SeldError:
        return SeldError(
            f"{self.config.path} {problem}.", "Check the file, and the name of the output or inner tensor."
        )


def log_mel(patches: Tensor, config: LogMelConfig, sample_rate: int) -> Tensor:
    """Return (n, frames, mels), the natural logarithm of mel energies of mono patches (n, samples); no padding."""
    ready_torchaudio()
    from torchaudio.functional import melscale_fbanks

    frames = patches.unfold(-1, config.window, config.hop) * torch.hann_window(config.window, periodic=True)
    magnitude = torch.fft.rfft(frames, n=config.n_fft).abs() ** config.power
    filters = melscale_fbanks(config.n_fft // 2 + 1, config.f_min, config.f_max, config.mels, sample_rate)
    return torch.log(magnitude @ filters + config.offset)


def _open(path: Path, config: OnnxTokensConfig) -> tuple[Any, Any, str]:
    """Return the session, its input, and the name of the tensor to read."""
    require_package("onnxruntime", "ONNX models")
    import onnxruntime

    if not path.is_file():
        raise SeldError(f"There is no ONNX model at {path}.", "Give the path of the .onnx file.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # A session of many threads takes every core, however many processes there are: threads call this one instead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    refuse_no_weights(path)
    content = read_bytes(path, 2**31, "Give the .onnx file.")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs()]
        output = config.output or outputs[0]
        if output not in outputs:
            # Not an output yet: an inner tensor is made one.
            content += _declared_output(output)
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class but this
        raise SeldError(
            f"{path} cannot be opened as an ONNX model"
            f"{f' with the tensor {config.output!r}' if config.output else ''}: {first_line(error)}",
            "Check the file, and the name of the output or inner tensor.",
        ) from error
    inputs = {item.name: item for item in session.get_inputs()}
    if config.input is None and len(inputs) != 1:
        raise SeldError(
            f"{path} has {len(inputs)} inputs: {listing(inputs)}.", "Set `input:`; it must be the only one."
        )
    chosen = inputs.get(config.input or next(iter(inputs)))
    if chosen is None:
        raise SeldError(f"{path} has no input {config.input!r}; it has {listing(inputs)}.", "Set `input:` to it.")
    return session, chosen, output


def _declared_output(name: str) -> bytes:
    """Return bytes that, appended to an ONNX model, declare the inner tensor `name` as one more output.

    An ONNX file is a protocol buffer, in which a message that occurs twice is merged: this is a second model whose
    graph (field 7) has one output (field 12) with a name (field 1).
    """

    def number(value: int) -> bytes:
        low, rest = value & 127, value >> 7
        return bytes([low | 128]) + number(rest) if rest else bytes([low])

    def message(field: int, content: bytes) -> bytes:
        return number(field << 3 | 2) + number(len(content)) + content

    return message(7, message(12, message(1, name.encode())))


def count_parameters(model: bytes) -> int:
    """Return how many numbers the initialisers of an ONNX model have, single ones left out; 0: not known.

    Read as a protocol buffer: of the graph (field 7) its tensors (field 5), of those their shapes (field 1),
    which stand there also where the numbers lie in another file.
    """
    try:
        graphs = [part for field, part in _fields(model) if field == 7 and isinstance(part, bytes)]
        tensors = [part for graph in graphs for field, part in _fields(graph) if field == 5]
        total = 0
        for tensor in tensors:
            shape: list[int] = []
            for field, part in _fields(tensor) if isinstance(tensor, bytes) else ():
                if field == 1:
                    shape += _numbers(part) if isinstance(part, bytes) else [part]
            count = math.prod(shape)
            total += count if count > 1 else 0
    except (IndexError, ValueError):
        return 0
    return total


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of a protocol buffer, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError


def _numbers(data: bytes) -> list[int]:
    place, found = 0, []
    while place < len(data):
        value, place = _number(data, place)
        found.append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of a message of a protocol buffer: their numbers, and bytes or whole numbers."""
    place = 0
    while place < len(data):
        key, place = _number(data, place)
        if key & 7 == 0:
            value, place = _number(data, place)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(key & 7, -1)
        if key & 7 == 2:
            size, place = _number(data, place)
        if size < 0 or place + size > len(data):
            raise ValueError
        yield key >> 3, data[place : place + size]
        place += size


def _fingerprint(path: Path) -> str:
    """Return 16 hexadecimal digits of the model file and of the weights that lie beside it under its name."""
    digest = hashlib.sha256()
    for file in [path, *sorted(path.parent.glob(f"{path.stem}*.data"))]:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


# The file's own initialisers audio_scale and audio_zero_point: -144 steps are ln(0.001), the floor of the log-mel.
_INPUT = QuantisationConfig(scale=0.04793788, zero_point=144)

# The mean over time and frequency of the last convolution, 1024 numbers; the classifier reads it.
_EMBEDDING = "/model/Reshape_output_0_qdq"


def onnx_settings(config: YamnetTokensConfig) -> OnnxTokensConfig:
    """Return how the ONNX encoder runs YAMNet: one embedding (1024 numbers) per patch of 0.96 s, evenly placed.

    Raises:
        SeldError: the weights are not there; the remedy is the command that fetches them.
    """
    found = find_model(config.source, kind="onnx")
    if found.is_dir() and (absent := [name for name in known_model("yamnet").files if not (found / name).is_file()]):
        raise SeldError(
            f"{found} lacks {listing(absent)} of YAMNet.",
            "Fetch it with `dcase-seld models pull yamnet`, or use `kind: onnx` for another export.",
        )
    return OnnxTokensConfig(
        path=str(found / "model.onnx" if found.is_dir() else found),
        output=_EMBEDDING,
        hop_s=config.hop_s,
        centred=True,
        log_mel=LogMelConfig(),
        input_quantisation=_INPUT,
    )


def from_config(config: OnnxTokensConfig | YamnetTokensConfig, sample_rate: int, device: str) -> OnnxEncoder:
    """Return the configured encoder, for sound of `sample_rate`; it runs on the CPU."""
    return OnnxEncoder(onnx_settings(config) if isinstance(config, YamnetTokensConfig) else config, sample_rate)
