from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cryobench_cryogan import memory
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.discriminator import ConvolutionalDiscriminator, count_numbers
from cryobench_cryogan.memory import estimate, find_place
from cryobench_cryogan.method import Params
from cryobench_cryogan.templates import count_template_numbers
from cryobench_cryogan.train import Trainer
from torch.utils._pytree import tree_leaves

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.errors import Declined
from cryobench.testing.tiny import tiny_run

CPU = torch.device("cpu")


@pytest.mark.parametrize(("box", "channels"), [(16, 4), (33, 3), (64, 2)])
def test_numbers_are_those_of_the_network(box: int, channels: int) -> None:
    network = ConvolutionalDiscriminator(box, channels, 10, torch.Generator().manual_seed(0))
    outputs = []
    for layer in network.layers:
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, out: outputs.append(out.numel()))
    network(torch.zeros(1, 1, box, box), torch.zeros(1, 0))
    weights = sum(p.numel() for p in network.parameters())
    assert count_numbers(box, channels, 10) == (weights, sum(outputs))


@pytest.mark.parametrize("templates", [3, 8])
def test_numbers_are_those_of_the_templates(templates: int, observed: Observed, small: Callable[..., Params]) -> None:
    params = small(templates=templates)
    network = build_discriminator(observed, params, observed.noise_power, torch.Generator().manual_seed(0), False)
    weights = sum(p.numel() for p in network.parameters())
    kept = network.embed(observed.read(slice(1)).images).numel() + network.transfer(observed.ctf[:1]).numel()
    found = count_template_numbers(observed.box, params.mask_radius, templates, params.hidden)
    assert (found[0], found[2]) == (weights, kept)


@pytest.mark.parametrize("kind", ["templates", "convolutions"])
def test_more_takes_more(kind: str, observed: Observed, small: Callable[..., Params]) -> None:
    """A wider discriminator and a larger batch; noise patches only where they are used."""
    chosen = {"discriminator": kind, "templates": 64, "channels": 64, "batch": 64}
    whole = estimate(observed, small(**chosen), False, CPU)
    width = {"templates": "templates", "convolutions": "channels"}[kind]
    for name in ("batch", width):
        less = estimate(observed, small(**chosen | {name: 32}), False, CPU)
        assert less.working < 0.7 * whole.working
        assert (less.weights < whole.weights) == (name == width)
        assert less.images == whole.images
    with_patches = estimate(observed, small(**chosen, noise="patches"), False, CPU)
    assert with_patches.images == whole.images + 4 * observed.noise_patches.numel()


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """A half-set in the largest box that the tiny scenario has."""
    directory = tiny_run(tmp_path_factory.mktemp("larger"), box=24, particles=32)
    return Observed(open_store(directory / "observed.zarr", "observed"), 1)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Counts what a piece of work holds in live tensors at its worst."""
    folder = Path(__file__).resolve().parents[3] / "benchmarks" / "gpu"
    if not folder.is_dir():
        pytest.skip("the counting of benchmarks/gpu is not here")
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module("counting").count


def tensors(thing: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(thing) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize(
    "given",
    [
        {"batch": 1, "templates": 1, "hidden": 1},
        {"batch": 64, "templates": 64},
        {"batch": 1, "templates": 256},
        {"preset": "convolutions", "channels": 16, "batch": 32, "penalty": 0.0},
        {"preset": "convolutions", "channels": 16, "batch": 32, "penalty_interval": 1},
        {"preset": "convolutions", "channels": 64, "batch": 1, "penalty": 0.0},
        {"preset": "paper", "channels": 16, "batch": 32, "epochs": None, "noise": "patches"},
    ],
    ids=["physics", "templates", "many templates", "convolutions", "R1", "many channels", "study"],
)
def test_the_formula_is_what_a_step_holds(
    given: dict[str, Any],
    larger: Observed,
    small: Callable[..., Params],
    count: Callable[..., Any],
    recording_run: Callable[..., Any],
) -> None:
    """Live tensors are counted, operation by operation. In this small box terms count that the formula leaves out."""
    params = small(**{"coarsest": None, **given})
    trainer = Trainer(larger, params, recording_run())
    trainer.take_step()  # moments and gradients are there from now on
    state, images = trainer.state, trainer.images
    assert images is not None
    waiting = [images._held, *([state.simulator.noise.patches] if params.noise == "patches" else [])]
    parameters = [*state.simulator.parameters(), *state.network.parameters()]
    held = tensors([state.save(), [*state.network.buffers()], [p.grad for p in parameters], waiting])
    peak = count(trainer.take_step, held, "cpu").memory
    need = estimate(larger, params, False, CPU)
    assert 0.75 < peak / (need.on(CPU, True) - need.good_states) < 1.35
    assert need.images == pytest.approx(sum(part.nbytes for part in tensors(waiting)), rel=0.03)
    kept = sum(part.nbytes for part in tensors(state.copy()))
    assert need.good_states == pytest.approx(2 * kept, rel=0.03)


def test_images_wait_where_they_fit(
    observed: Observed, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = small()
    need = estimate(observed, params, False, CPU)
    with_images, without = (memory.RESERVE * need.on(CPU, resident) for resident in (True, False))
    for free, expected in ((with_images, "device"), (with_images - 1, "store"), (without, "store")):
        monkeypatch.setattr(memory, "free_memory", lambda _, free=free: free)
        assert find_place(observed, params, False, CPU) == expected


def test_a_training_that_does_not_fit_is_declined_with_what_does(
    observed: Observed, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = small(batch=64, templates=128, processes=2)
    least = estimate(observed, small(batch=16, templates=128, processes=2), False, CPU)
    free = memory.RESERVE * 2 * least.on(CPU, False)
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    with pytest.raises(Declined, match="what fits: -p images=store -p batch=") as error:
        find_place(observed, params, False, CPU)
    words = [word for word in str(error.value).split() if "=" in word]
    advice = dict(word.split("=") for word in words)
    assert find_place(
        observed, small(processes=2, templates=128, batch=int(advice["batch"]), images="store"), False, CPU
    )
    monkeypatch.setattr(memory, "free_memory", lambda _: 1000)
    with pytest.raises(Declined, match="a smaller box"):
        find_place(observed, params, False, CPU)


@pytest.mark.parametrize(("kind", "width"), [("templates", "templates"), ("convolutions", "channels")])
def test_where_no_batch_fits_a_narrower_discriminator_may(
    kind: str, width: str, observed: Observed, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"discriminator": kind, "batch": 1, "images": "store"}
    free = memory.RESERVE * estimate(observed, small(**chosen, **{width: 64}), False, CPU).on(CPU, False)
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    with pytest.raises(Declined, match=rf"batch 1 and 256 {width}, .*what fits: -p {width}=64$"):
        find_place(observed, small(**chosen, **{width: 256}), False, CPU)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_refusal_names_more_than_there_is(
    device: str, observed: Observed, small: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are to wait on the host, which has too little for them."""
    params, where = small(images="host"), torch.device(device)
    need = estimate(observed, params, False, where)
    left = {"cpu": need.images // 2, "cuda": 10 * need.on(where, True)}
    if device == "cpu":
        left["cpu"] += int(memory.RESERVE * need.on(where, False))
    monkeypatch.setattr(memory, "free_memory", lambda device: left[device.type])
    monkeypatch.setattr(memory, "GIB", 1)
    with pytest.raises(Declined, match="what fits: -p images=store") as error:
        find_place(observed, params, False, where)
    wanted, found = (float(number) for number in re.findall(r"([\d.]+) GiB", str(error.value)))
    assert wanted > found


def test_what_a_control_group_leaves(tmp_path: Path) -> None:
    assert list(memory._group_limits(tmp_path)) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 400\nslab 7\n")
    assert list(memory._group_limits(tmp_path)) == []
    (tmp_path / "memory.max").write_text("10000\n")
    assert list(memory._group_limits(tmp_path)) == [7400]
