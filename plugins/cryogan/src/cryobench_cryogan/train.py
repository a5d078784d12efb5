"""Training: Algorithm 1 of the paper, discriminator and volume in turn."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from cryobench.reconstruct.contract import Observed, Reconstruction, Run
from cryobench_cryogan.discriminator import build_discriminator
from cryobench_cryogan.losses import discriminator_loss, penalty, volume_loss, volume_slope
from cryobench_cryogan.method import Params
from cryobench_cryogan.simulator import Simulator, keep_disc

CHECKPOINT_SECONDS = 30.0


@dataclass
class State:
    """Everything that training changes."""

    simulator: Simulator
    network: nn.Sequential
    volume_optimiser: torch.optim.Adam
    network_optimiser: torch.optim.Adam
    generator: torch.Generator
    average: Tensor
    step: int = 0

    def save(self) -> dict[str, Any]:
        """Tensors and numbers from which training goes on exactly."""
        return {
            "simulator": self.simulator.state_dict(),
            "network": self.network.state_dict(),
            "volume_optimiser": self.volume_optimiser.state_dict(),
            "network_optimiser": self.network_optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average,
            "step": self.step,
        }

    def load(self, kept: dict[str, Any]) -> None:
        """Undo of :meth:`save`."""
        self.simulator.load_state_dict(kept["simulator"])
        self.network.load_state_dict(kept["network"])
        self.volume_optimiser.load_state_dict(kept["volume_optimiser"])
        self.network_optimiser.load_state_dict(kept["network_optimiser"])
        self.generator.set_state(kept["generator"].cpu())
        self.average, self.step = kept["average"], kept["step"]


@final
class Trainer:
    """One half-set's training."""

    def __init__(self, observed: Observed, params: Params, run: Run) -> None:
        self.observed, self.params, self.run = observed, params, run
        images = keep_disc(observed.read(slice(None)).images.to(run.device))
        self.scale = float(images.std())
        self.real = (images / self.scale)[:, None]
        generator = torch.Generator(device=run.device).manual_seed(run.seed)
        simulator = Simulator(observed, params, self.scale, generator)
        network = build_discriminator(observed.box, params.channels, params.hidden, generator)
        network = network.to(memory_format=torch.channels_last)
        betas = (params.beta1, params.beta2)
        groups = [
            {"params": [simulator.values], "lr": params.learning_rate_volume},
            {"params": [simulator.log_signal, simulator.log_noise], "lr": params.learning_rate_scales},
        ]
        self.started, self.first = time.monotonic(), 0
        self.state = State(
            simulator,
            network,
            torch.optim.Adam(groups, betas=betas),
            torch.optim.Adam(network.parameters(), lr=params.learning_rate_discriminator, betas=betas),
            generator,
            torch.zeros_like(simulator.values),
        )
        self.bfloat16 = has_fast_bfloat16(run.device) if params.bfloat16 is None else params.bfloat16
        self.rates = [group["lr"] for group in self.state.volume_optimiser.param_groups]

    def set_rates(self) -> None:
        """Exponential decay of all learning rates, to ``final_rate`` at the last step or, if sooner, at the end of the budget."""
        done = self.state.step / self.params.steps
        remaining = self.run.remaining()
        if math.isfinite(remaining):
            # steps that the budget still allows at the pace so far
            pace = (time.monotonic() - self.started) / max(self.state.step - self.first, 1)
            possible = self.state.step + max(remaining, 0) / max(pace, 1e-6)
            done = max(done, self.state.step / max(possible, 1))
        left = self.params.final_rate ** min(done, 1)
        for group, rate in zip(self.state.volume_optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * left
        for group in self.state.network_optimiser.param_groups:
            group["lr"] = self.params.learning_rate_discriminator * left

    def draw_real(self) -> Tensor:
        """A batch of real images ``(batch, 1, y, x)``."""
        device = self.real.device
        chosen = torch.randint(len(self.real), (self.params.batch,), generator=self.state.generator, device=device)
        return self.real[chosen]

    def score(self, images: Tensor) -> Tensor:
        """Discriminator scores ``(batch, 1)``, convolved in bfloat16 where asked."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.state.network(images).float()

    def discriminate(self, simulated: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """One discriminator step; ``count`` numbers the steps. Returns the loss and the scores of the simulated images.

        Where ``simulated`` asks for a gradient it is left there, before the discriminator moves.
        """
        params = self.params
        real = self.draw_real()
        scores = self.score(torch.cat([real, simulated]))
        loss = discriminator_loss(params.loss, scores[: len(real)], scores[len(real) :])
        total = loss
        if params.penalty and count % params.penalty_interval == 0:
            mix = torch.rand(len(real), generator=self.state.generator, device=real.device)
            weight = params.penalty * params.penalty_interval
            total = loss + weight * penalty(params.loss, self.score, real, simulated, mix)
        self.state.network_optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.state.network_optimiser.step()
        return loss.detach(), scores[len(real) :].detach()

    def move_together(self) -> Tensor:
        """Both steps on one batch and one backward pass: the volume's gradient is the discriminator's, reweighted."""
        state, params = self.state, self.params
        images = state.simulator(params.batch)[:, None]
        leaf = images.detach().requires_grad_(True)
        loss, scores = self.discriminate(leaf, state.step)
        assert leaf.grad is not None
        state.volume_optimiser.zero_grad(set_to_none=True)
        images.backward(leaf.grad * volume_slope(params.loss, scores)[:, :, None, None])
        return loss

    def move_in_turn(self) -> Tensor:
        """``n_discr`` discriminator steps, then the volume's gradient under the moved discriminator (Algorithm 1)."""
        state, params = self.state, self.params
        for turn in range(params.n_discr):
            with torch.no_grad():
                simulated = state.simulator(params.batch)[:, None]
            loss, _ = self.discriminate(simulated, state.step * params.n_discr + turn)
        state.network.requires_grad_(False)
        state.volume_optimiser.zero_grad(set_to_none=True)
        volume_loss(params.loss, self.score(state.simulator(params.batch)[:, None])).backward()
        state.network.requires_grad_(True)
        return loss

    def take_step(self) -> dict[str, float]:
        """One step of discriminator and volume. Returns the loss and the scales."""
        state = self.state
        self.set_rates()
        loss = self.move_together() if self.params.together else self.move_in_turn()
        state.volume_optimiser.step()
        state.simulator.constrain()
        state.step += 1
        # the running mean forgets its zero start as fast as a plain mean would
        keep = min(self.params.average, 1 - 1 / state.step)
        state.average.lerp_(state.simulator.values.detach(), 1 - keep)
        return {
            "discriminator_loss": float(loss),
            "signal_scale": math.exp(float(state.simulator.log_signal.detach())),
            "noise_scale": math.exp(float(state.simulator.log_noise.detach())),
        }

    def volume(self) -> Tensor:
        """The running mean, constrained as the volume itself, in the data's units."""
        simulator = self.state.simulator
        with torch.no_grad():
            kept = simulator.values.clone()
            simulator.values.copy_(self.state.average)
            volume = simulator.volume() * simulator.unit * simulator.log_signal.exp()
            simulator.values.copy_(kept)
        return volume

    def train(self) -> Reconstruction:
        """Run to the last step or the end of the budget."""
        state, params, run = self.state, self.params, self.run
        kept = run.restore()
        if kept is not None:
            state.load(kept)
        marks = {round(params.steps * (k + 1) ** 2 / params.snapshots**2) for k in range(params.snapshots)}
        saved = self.started = time.monotonic()
        self.first = state.step
        while state.step < params.steps and run.remaining() > 0:
            scalars = self.take_step()
            if not math.isfinite(scalars["discriminator_loss"]):
                raise ArithmeticError(
                    f"diverged at step {state.step}; a smaller -p learning_rate_discriminator or a larger -p penalty helps"
                )
            seen = state.step * params.batch * (1 if params.together else params.n_discr)
            run.progress(state.step, params.steps, seen, **scalars)
            if state.step in marks or (params.snapshots and run.remaining() <= 0):
                run.snapshot(self.volume(), seen)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                run.checkpoint(state.save(), state.step)
                saved = time.monotonic()
        with torch.no_grad():
            examples = state.simulator(16) * self.scale
        arithmetic = "bfloat16" if self.bfloat16 else "float32"
        return Reconstruction(self.volume(), example_images=examples, notes=[f"Convolved in {arithmetic}."])


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are faster than float32 ones on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def train(observed: Observed, params: Params, run: Run) -> Reconstruction:
    """Reconstruct one half-set."""
    return Trainer(observed, params, run).train()
