"""Training on one half-set: steps until the last one or the end of the budget, watched, resumable."""

from __future__ import annotations

import math
import time
from typing import Final, final

import torch
from torch import Tensor

from cryobench.physics.fourier import fourier_pad_volumes
from cryobench.reconstruct.contract import Observed, Reconstruction, Run
from cryobench_cryogan.build import build_discriminator
from cryobench_cryogan.divergence import GoodStates, Watch
from cryobench_cryogan.images import Order, RealImages, measure_scale
from cryobench_cryogan.memory import find_place
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import LEADER, Team
from cryobench_cryogan.schedule import Schedule
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.state import State, copy_tensors
from cryobench_cryogan.step import Stepper

CHECKPOINT_SECONDS: Final = 30.0
"""Between checkpoints; a killed run loses at most the work of so long, but for what looked like a collapse."""
SHOWN: Final = ("discriminator_loss", "volume_loss", "signal_scale", "noise_scale")
"""What of all that is measured is told first."""
STEPS_AT_ONCE: Final = 8
"""Steps between looks at the clock and at what is measured, where looking makes a GPU or other processes wait."""


@final
class Trainer:
    """One half-set's training.

    Args:
        observed: the half-set.
        params: of the method.
        run: the harness's hand.
        team: processes that share the batches; this one alone if not given.

    Raises:
        Declined: if memory does not suffice.
    """

    def __init__(self, observed: Observed, params: Params, run: Run, team: Team | None = None) -> None:
        self.params, self.run, self.team = params, run, team or Team()
        self.observed = observed
        device = run.device
        self.bfloat16 = has_fast_bfloat16(device) if params.bfloat16 is None else params.bfloat16
        leads = self.team.rank == LEADER
        self.place = self.team.tell(find_place(observed, params, self.bfloat16, device) if leads else None)
        self.schedule = Schedule(params, len(observed), observed.box)
        self.order = Order(run.seed, len(observed), params.batch, params.shuffle)
        self.first = 0, 0.0
        self.images: RealImages | None = None
        self._enter(self.schedule.boxes[0])

    def _enter(self, box: int, previous: State | None = None) -> None:
        """Take up a box: anew, or with what was learned in a smaller one."""
        params, device = self.params, self.run.device
        observed = self.observed if box == self.observed.box else self.observed.coarsen(box)
        scale = measure_scale(observed, params.normalise)
        if self.images is not None:
            self.images.close()
            self.images = None  # its features make room for the new ones
        generator = previous.generator if previous else torch.Generator(device=device).manual_seed(self.run.seed)
        simulator = Simulator(observed, params, scale, generator, self.team)
        shared = params.network_seed
        weights = generator if shared is None else torch.Generator(device=device).manual_seed(shared)
        network = build_discriminator(observed, params, simulator.noise.power, weights, self.bfloat16)
        if previous is not None:
            simulator.resume(previous.simulator, previous.average)
            network.grow(previous.network)
        groups = [
            {"params": [simulator.values], "lr": params.learning_rate_volume},
            {"params": [simulator.log_signal, simulator.log_noise], "lr": params.learning_rate_scales},
        ]
        betas = params.beta1, params.beta2
        rate = params.learning_rate_discriminator
        self.state = State(
            simulator,
            network,
            torch.optim.Adam(groups, betas=betas, eps=params.epsilon),
            torch.optim.Adam(network.parameters(), lr=rate, betas=betas, eps=params.epsilon),
            generator,
            simulator.values.detach().clone(),
        )
        if previous is not None:
            self.state.take_over(previous)
        self.rates = [group["lr"] for group in self._groups()]
        share = self.team.share(params.batch)
        self.images = RealImages(
            observed, self.order, params.normalise, scale, network.embed, self.place, share, device
        )
        self.stepper = Stepper(params, self.state, self.images, self.team)

    def _groups(self) -> list[dict[str, object]]:
        return [*self.state.volume_optimiser.param_groups, *self.state.network_optimiser.param_groups]

    def train(self) -> Reconstruction:
        """Run to the last step or the end of the budget.

        Raises:
            ArithmeticError: if training diverges again and again.
        """
        run, total = self.run, self.schedule.steps
        # by way of the host: on a device of the leader's, followers could not take it up
        if (kept := self.team.tell(copy_tensors(run.restore(), torch.device("cpu")))) is not None:
            if kept["box"] != self.schedule.boxes[0]:
                self._enter(kept["box"])
            self.state.load(kept)
        good, watch, marks = GoodStates(self.state), Watch(self.params.loss), self.schedule.marks()
        shown: int | None = None  # snapshots so far
        shown_at = -1
        before = self.state.seconds
        saved = began = time.monotonic()
        self.first = self.state.step, before
        try:
            while self.state.step < total:
                # the leader's clock alone: learning rates that differed would let the members' volumes drift apart
                remaining, seconds = self.team.agree([run.remaining(), self.state.seconds], run.device)
                if remaining <= 0:
                    break
                # the share of the budget that is spent, which is the share of the steps that it allows at the pace so far
                spent = 0.0 if math.isinf(remaining) else seconds / (seconds + remaining)
                if shown is None:
                    shown = self.schedule.due(self.state.step, spent)
                box = self.schedule.box_at(self.schedule.progress(self.state.step, spent))
                if box > self.state.simulator.observed.box and not watch.suspects:
                    self._enter(box, self.state)
                    good, watch = GoodStates(self.state), Watch(self.params.loss)
                    self.first = self.state.step, before + time.monotonic() - began
                state = self.state
                measured = self._take_some(spent, marks, total)
                state.seconds = before + time.monotonic() - began
                if (why := watch.find(state.step, measured)) is not None:
                    good.rewind(state, why, self.params.rewinds)
                    continue
                if not watch.suspects:
                    good.keep(state)
                self._report(measured, remaining, total)
                if (due := self.schedule.due(state.step, spent)) > shown:
                    run.snapshot(self.volume(), self.images_seen())
                    shown, shown_at = due, state.step
                # a run that is resumed has nothing but its checkpoint to go back to
                if time.monotonic() - saved > CHECKPOINT_SECONDS and not watch.suspects:
                    run.checkpoint(state.save(), state.step)
                    saved = time.monotonic()
        finally:
            assert self.images is not None
            self.images.close()
        state = self.state
        if self.params.snapshots and state.step != shown_at:
            run.snapshot(self.volume(), self.images_seen())
        with torch.no_grad():
            examples, _ = state.simulator(16 * self.team.size)
        examples = examples * state.simulator.data_scale
        return Reconstruction(self.volume(), example_images=examples, notes=[*self._remarks(), *state.notes])

    def _remarks(self) -> list[str]:
        remarks = []
        if self.params.discriminator == "convolutions":
            remarks.append(f"Convolved in {'bfloat16' if self.bfloat16 else 'float32'}.")
        if self.params.noise != self.state.simulator.noise.kind:
            remarks.append(
                "Noise patches were not paired with CTFs: none is known to be from the micrograph of a particle."
            )
        return remarks

    def _take_some(self, spent: float, marks: set[int], total: int) -> dict[str, float]:
        """Steps up to the next look at the clock, none past a snapshot or the end. Returns what the last one measured."""
        looking_is_free = self.run.device.type == "cpu" and self.team.size == 1
        count = 1 if looking_is_free else STEPS_AT_ONCE
        end = min([self.state.step + count, total, *(mark for mark in marks if mark > self.state.step)])
        while True:
            measure = self.state.step + 1 == end
            measured = self.take_step(spent, measure)
            if measure:
                return measured

    def take_step(self, spent: float = 0.0, measure: bool = True) -> dict[str, float]:
        """One step of discriminator and volume. Returns what was measured, if asked.

        Args:
            spent: fraction of the budget.
            measure: the loss, scores, gradients and scales; makes the device finish its work.
        """
        state = self.state
        left = self.schedule.rate(state.step, spent) / 2**state.rewound
        for group, rate in zip(self._groups(), self.rates, strict=True):
            group["lr"] = rate * left
        measured = self.stepper.take(self.schedule.width(state.step), measure)
        if not measure:
            return {}
        measured["signal_scale"] = state.simulator.log_signal.detach().exp()
        measured["noise_scale"] = state.simulator.log_noise.detach().exp()
        # one exchange with the device for all of them
        values = torch.stack(list(measured.values())).tolist()
        return dict(zip(measured, values, strict=True))

    def _report(self, measured: dict[str, float], remaining: float, total: int) -> None:
        step, seconds = self.state.step, self.state.seconds
        first_step, first_seconds = self.first
        pace = max(seconds - first_seconds, 1e-9) / max(step - first_step, 1)
        self.run.progress(
            step,
            total,
            self.images_seen(),
            **{
                **{name: measured[name] for name in SHOWN},
                "images_per_second": self.schedule.images_per_step / pace,
                "seconds_left": min(self.schedule.left(step) * pace, remaining),
                "rewinds": self.state.rewound,
                **measured,
            },
        )

    def images_seen(self) -> int:
        """Real images that the discriminator has seen."""
        return self.state.step * self.schedule.images_per_step

    def volume(self) -> Tensor:
        """The running mean, constrained as the volume itself, in the data's units and box."""
        simulator = self.state.simulator
        with torch.no_grad():
            volume = simulator.constrained(self.state.average) * simulator.unit * simulator.log_signal.exp()
        return fourier_pad_volumes(volume, self.observed.box)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are faster than float32 ones on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
