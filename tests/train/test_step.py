"""An update never waits for its device: nothing is asked back, and what travels there is small and does not block."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from noise import noise_store
from safetensors.torch import load_file
from tiny import MODEL, make_store
from torch.utils._python_dispatch import TorchDispatchMode

from dcase_seld.core.errors import SeldError
from dcase_seld.core.task import TASKS, Task
from dcase_seld.model.network import build_model
from dcase_seld.model.types import ModelInput, SeldTarget, Tokens
from dcase_seld.store.batches import Batch, Batches, ResidentSound
from dcase_seld.store.source import StoreSource
from dcase_seld.store.store import Store
from dcase_seld.train.augment import Augment
from dcase_seld.train.config import TrainConfig
from dcase_seld.train.loop import train
from dcase_seld.train.losses import make_loss
from dcase_seld.train.setup import fits_on_device, make_batches, make_optimizer, resident_sound
from dcase_seld.train.state import WeightAverage
from dcase_seld.train.step import training_step

STAGED_BYTES = 65536
"""CUDA takes so much of memory that is not page-locked without finishing first what it was given; of more it waits.

Source: the section on synchronization of the CUDA Runtime API's reference.
"""

WAITS = {"aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.is_nonzero", "aten.equal", "aten.masked_select"}


class Waits(TorchDispatchMode):
    """Notes what would wait for the device, or travel to it while the program waits; but for a page-locked batch."""

    def __init__(self, device: str, page_locked: Batch | None = None) -> None:
        super().__init__()
        self.device, self.found = device, list[str]()
        self.locked: set[int] = set()
        if page_locked is not None:
            for part in (page_locked.input, page_locked.target):
                part.map(lambda field: self.locked.add(field.data_ptr()) or field)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func).rsplit(".", 1)[0]
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if name in WAITS and tensors[0].device.type == self.device:
            self.found.append(name)
        there = kwargs.get("device")
        moved = name == "aten._to_copy" and there is not None and tensors[0].device != torch.device(there)
        if moved and (not kwargs.get("non_blocking") or tensors[0].device.type == "meta" or not lies_dense(tensors[0])):
            self.found.append(f"{name} {tensors[0].device} to {there}")
        elif moved and tensors[0].nbytes > STAGED_BYTES and tensors[0].data_ptr() not in self.locked:
            self.found.append(f"{name} of {tensors[0].nbytes:,} bytes")
        if name.startswith("aten.index"):
            places = [one for one in args[1] or [] if one is not None] if isinstance(args[1], (list, tuple)) else []
            if any(one.device != tensors[0].device or one.dtype == torch.bool for one in places):
                self.found.append(name)
        return func(*args, **kwargs)


def batch_on(task: Task, clips: int, channels: int) -> Batch:
    """Return a batch of noise as it travels, with tokens and several sources a class."""
    rng = np.random.default_rng(0)
    sound = rng.integers(-3000, 3000, (clips, task.window_samples, channels), np.int16)
    frames, classes = task.window_frames, len(task.classes)
    axes = 3 if task.geometry == "sphere" else 2
    fields = [torch.rand(clips, frames, classes, 3, axes), *(torch.rand(clips, frames, classes, 3) for _ in range(2))]
    target = SeldTarget(torch.randint(0, 4, (clips, frames, classes)), *fields)
    tokens = {"clap": Tokens(torch.rand(clips, 3, 512).half())}
    inputs = ModelInput(wave=torch.from_numpy(sound).transpose(1, 2), tokens=tokens)
    return Batch(inputs, target, *(torch.zeros(clips, dtype=torch.int64) for _ in range(3)))


AUGMENT = {"swap": 0.9, "frame_swap": 0.9, "gain": 0.9, "mixup": 0.9, "mask": 0.9, "filter": 0.9}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", ["dcase2025", "dcase2024"])
def test_nothing_in_an_update_waits(tmp_path: Path, name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On `meta` tensors have no numbers: whatever looked at one would fail; there with several processes and parts.

    Nothing is worked out there either, so that its batch is one for the largest of GPUs.
    """
    several = device == "meta"
    task = TASKS[name]
    features = ["log_mel", "ild", "stpacc"] if task.channels == "stereo" else ["log_mel", "intensity_vector"]
    size = {} if several else MODEL["frontend"]
    model = {**MODEL, "track": "b", "frontend": {**size, "features": features}, "fusion": ["clap"]}
    chosen = {**AUGMENT, "rotate": 0.9} if task.channels == "foa" else AUGMENT
    config = TrainConfig(model=model, augment=chosen, ema=0.9, accumulate=1 + several, tensorboard=False)
    network = build_model(config.model, task).to(device)
    optimizer, average = make_optimizer(network, config), WeightAverage(network, 0.9)
    source = StoreSource(Store.open(noise_store(tmp_path / "store", 10, task=task)), np.arange(10))
    loss, augment = make_loss(config, [source]), Augment(config.augment, network.frontend)
    # Fabric knows no device "meta"; of it an update needs this.
    fabric = SimpleNamespace(
        device=torch.device(device),
        world_size=1 + several,
        global_rank=0,
        all_reduce=lambda tensor, reduce_op: 2 * tensor,
        no_backward_sync=lambda *_, **__: nullcontext(),
        backward=lambda total: total.backward(),
        clip_gradients=lambda wrapped, *_, max_norm, **__: torch.nn.utils.clip_grad_norm_(
            wrapped.module.parameters(), max_norm
        ),
    )
    if device == "meta":
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    batch = batch_on(task, 256 if several else 4, 2 if task.channels == "stereo" else 4)
    resident = ResidentSound([source], torch.device(device)) if several else None
    if several:
        batch = batch._replace(input=batch.input.replace(wave=None))
    call = type("Wrapped", (), {"__call__": lambda self, inputs: network(inputs), "module": network})()
    training_step(fabric, call, optimizer, batch, loss, augment, config, 0, resident=resident)
    average.update(network, 0)
    with Waits(device, page_locked=batch) as waits:
        for step in (1, 2):
            sums = training_step(fabric, call, optimizer, batch, loss, augment, config, step, resident=resident)
            average.update(network, step)
    assert waits.found == []
    assert sums.device.type == device and (device == "meta" or bool(torch.isfinite(sums).all()))


def lies_dense(tensor: torch.Tensor) -> bool:
    """Return whether a copy on a device lies as the tensor does; else PyTorch copies it first, not page-locked."""
    return torch.empty_like(tensor).stride() == tensor.stride()


@pytest.mark.parametrize("name", ["dcase2025", "dcase2024"])
@pytest.mark.parametrize("mixed", [False, True])
def test_batches_travel_as_they_lie(tmp_path: Path, name: str, mixed: bool) -> None:
    stores = [Store.open(noise_store(tmp_path / str(n), 6, seed=n, task=TASKS[name])) for n in range(1 + mixed)]
    batch = next(iter(Batches([StoreSource(store, np.arange(6)) for store in stores], 5, shuffle_seed=1, raw=True)))
    assert batch.target is not None and batch.input.wave is not None
    fields = {**batch.target._asdict(), "wave": batch.input.wave, "index": batch.index, "start": batch.start}
    assert {key for key, field in fields.items() if not lies_dense(field)} == set()
    assert not lies_dense(torch.zeros(4, 5)[:, :2])


def test_the_mode_sees_what_waits() -> None:
    with Waits("cpu") as waits:
        one = torch.ones(3)
        float(one.sum())
        one[one > 0]
        torch.ones(3, device="cpu").to("meta")
    assert {"aten._local_scalar_dense", "aten.index", "aten._to_copy cpu to meta"} <= set(waits.found)
    with Waits("meta") as waits:
        torch.ones(2**14).to("meta", non_blocking=True)
        torch.ones(2**14 + 1).to("meta", non_blocking=True)
    assert waits.found == ["aten._to_copy of 65,540 bytes"]


def test_sound_on_the_device_is_that_of_the_files(tmp_path: Path) -> None:
    one, other = (Store.open(noise_store(tmp_path / str(seed), 10, seed=seed)) for seed in (1, 2))
    sources = [StoreSource(one, np.arange(1, 9), frames=30), StoreSource(other, np.arange(10), frames=30)]
    resident = ResidentSound(sources, torch.device("cpu"))
    assert ResidentSound.size(sources) == one.pcm.nbytes + other.pcm.nbytes
    plain = Batches(sources, 7, shuffle_seed=3)
    silent = Batches(sources, 7, shuffle_seed=3, sound=False)
    beyond = 0
    for read, bare in zip(plain, silent, strict=True):
        assert bare.input.wave is None
        wave = ModelInput(wave=resident.wave(bare)).floats().wave
        assert torch.equal(wave, read.input.wave)
        beyond += int((read.start > 0).sum())
    assert beyond > 0


def test_sound_moves_to_a_device_whose_free_memory_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = StoreSource(Store.open(noise_store(tmp_path, 12)), np.arange(1, 12))
    need = ResidentSound.size([source])
    assert need == 12 * 120_000 * 2 * 2
    for place, free, fits in (("auto", 4 * need, True), ("auto", 2 * need, False), ("device", 4 * need, True)):
        assert fits_on_device(TrainConfig(data_on=place, data_share=0.3), need, free) is fits
    with pytest.raises(SeldError, match=r"the sound takes 0\.0 GB of 0\.0 GB .* more than data_share 0\.3"):
        fits_on_device(TrainConfig(data_on="device", data_share=0.3), need, 2 * need)

    # A device that says it is CUDA and of whose memory so much is free; the sound itself goes to another one.
    made, asked = [], []
    monkeypatch.setattr("dcase_seld.train.setup.ResidentSound.__init__", lambda self, *given: made.append(given))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (asked.append(device) or 4 * need, 80 * 10**9))
    device = torch.device("cuda", 1)
    assert resident_sound(TrainConfig(data_share=0.2), [source], device) is None and asked == [device]
    assert resident_sound(TrainConfig(data_on="host"), [source], device) is None and made == []
    assert resident_sound(TrainConfig(data_share=0.3), [source], device) is not None and made == [([source], device)]
    source.cache = object()
    assert resident_sound(TrainConfig(data_on="device"), [source], device) is None, "features come from a cache"


def test_processes_gather_from_the_device_what_each_would_read(tmp_path: Path) -> None:
    """Two processes: each holds the sound on its own device, and meets its own clips."""
    source = StoreSource(Store.open(noise_store(tmp_path, 12)), np.arange(12))
    config, device = TrainConfig(batch_size=6), torch.device("cpu")
    resident, met = ResidentSound([source], device), []
    for rank in range(2):
        fabric = SimpleNamespace(device=device, world_size=2, global_rank=rank)
        bare, read = (make_batches(config, [source], fabric, there).epoch(0) for there in (resident, None))
        for one, other in zip(bare, read, strict=True):
            assert one.input.wave is None and len(one.index) == 3
            assert torch.equal(ModelInput(wave=resident.wave(one)).floats().wave, other.input.wave)
            met += one.index.tolist()
    assert sorted(met) == list(range(12))
    empty = ResidentSound([source], torch.device("meta")).wave(one)
    assert empty.shape == (3, 2, 120_000) and empty.dtype == torch.int16 and empty.device.type == "meta"


def test_where_the_sound_lives_and_how_it_travels_change_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "made", train=16, val=4, test=1)
    found = []
    for place in ("host", "device"):
        (tmp_path / place).mkdir()
        config = TrainConfig(
            model={**MODEL, "track": "b"}, epochs=1, batch_size=8, data_on=place, augment=AUGMENT, tensorboard=False
        )
        train(config, [store], tmp_path / place, device="cpu")
        found.append(load_file(tmp_path / place / "last/model.safetensors"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    raw = next(iter(Batches(StoreSource(Store.open(store), np.arange(5)), 5, raw=True))).input
    plain = next(iter(Batches(StoreSource(Store.open(store), np.arange(5)), 5))).input
    assert raw.wave.dtype == torch.int16 and torch.equal(raw.floats().wave, plain.wave)
