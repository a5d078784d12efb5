"""One step of training: discriminator and volume moved once (Algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.profiler import record_function

from cryobench_cryogan.images import BLOCK, RealImages
from cryobench_cryogan.losses import discriminator_loss, penalty, volume_loss, volume_slope
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.prepare import prepare
from cryobench_cryogan.simulator import detach
from cryobench_cryogan.state import State

PHASES: Final = ("input", "physics", "discriminator", "penalty", "optimisers")
"""What the work of a step is filed under in a profile."""


@final
class Stepper:
    """Takes steps, and measures them when asked.

    Args:
        params: of the method.
        state: that is moved.
        images: real ones.
        team: that shares the batches.
    """

    def __init__(self, params: Params, state: State, images: RealImages, team: Team) -> None:
        self.params, self.state, self.images, self.team = params, state, images, team
        network = state.network
        self.score: Callable[[Tensor, Tensor], Tensor] = torch.compile(network) if params.compile else network
        # piece by piece: what it takes on the way is many times what it gives
        particles = torch.arange(len(state.simulator.ctf), device=state.generator.device)
        self._transfer = torch.cat([network.transfer(state.simulator.ctf[part]) for part in particles.split(BLOCK)])
        self._reflects = params.reflect and state.simulator.observed.assumed_pose["kind"] == "uniform"
        self._measured: dict[str, Tensor] = {}

    def take(self, width: float, measure: bool) -> dict[str, Tensor]:
        """Move discriminator and volume once.

        Args:
            width: of the images' smoothing, pixels.
            measure: whether to measure gradients and scores as well.

        Returns:
            What was measured: scalars on the device, of the whole team; nothing if it was not asked for.
        """
        self._measured = {}
        move = self._move_together if self.params.together else self._move_in_turn
        move(width, measure)
        state = self.state
        volume_parameters = [p for group in state.volume_optimiser.param_groups for p in group["params"]]
        self.team.average([p.grad for p in volume_parameters if p.grad is not None])
        if measure:
            assert state.simulator.values.grad is not None
            self._measured["volume_gradient"] = state.simulator.values.grad.norm()
            self.team.average(list(self._measured.values()))
        with record_function("optimisers"):
            state.volume_optimiser.step()
            state.simulator.constrain()
            state.step += 1
            # the running mean forgets its zero start as fast as a plain mean would
            keep = min(self.params.average, 1 - 1 / state.step)
            state.average.lerp_(state.simulator.values.detach(), 1 - keep)
        return self._measured

    def _move_together(self, width: float, measure: bool) -> None:
        """Both moves on one batch and one backward pass: the volume's gradient is the discriminator's, reweighted."""
        state, params = self.state, self.params
        with record_function("physics"):
            images, rows = state.simulator(params.batch, width)
        with record_function("discriminator"):
            features = state.network.embed(images)
        leaf = features.detach().requires_grad_(True)
        scores = self._discriminate(leaf, rows, state.step, width, measure)
        assert leaf.grad is not None
        self._move(features, _weigh(leaf.grad, volume_slope(params.loss, scores)))

    def _move_in_turn(self, width: float, measure: bool) -> None:
        """``n_discr`` discriminator steps, then the volume's gradient under the moved discriminator (Algorithm 1)."""
        state, params = self.state, self.params
        with record_function("physics"):
            spectrum = state.simulator.transform()  # once: the volume stands still while the discriminator moves
        still = detach(spectrum)
        for turn in range(params.n_discr):
            with torch.no_grad():
                with record_function("physics"):
                    simulated, rows = state.simulator.simulate(still, params.batch, width)
                with record_function("discriminator"):
                    features = state.network.embed(simulated)
            last = turn == params.n_discr - 1
            self._discriminate(features, rows, state.step * params.n_discr + turn, width, measure and last)
        with record_function("physics"):
            images, rows = state.simulator.simulate(spectrum, params.batch, width)
        with record_function("discriminator"):
            features = state.network.embed(images)
            leaf = features.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(volume_loss(params.loss, self.score(leaf, self._transfer[rows])), leaf)
        self._move(features, slope)

    def _move(self, features: Tensor, slope: Tensor) -> None:
        """Gradient of the volume, from that of the simulated images' features."""
        self.state.volume_optimiser.zero_grad(set_to_none=True)
        with record_function("physics"):
            torch.autograd.backward(features, slope)

    def _discriminate(self, simulated: Tensor, rows: Tensor, number: int, width: float, measure: bool) -> Tensor:
        """Discriminator step ``number`` on the features of simulated images. Returns their scores.

        Where ``simulated`` asks for a gradient it is left there, before the discriminator moves.

        Args:
            simulated: features ``(image, ...)``.
            rows: particles whose CTFs they have.
            number: of the batch of real images.
            width: of the images' smoothing, pixels.
            measure: whether to measure.
        """
        params, optimiser = self.params, self.state.network_optimiser
        with record_function("input"):
            real, particles = self._read(number, width)
            told, told_of_simulated = self._transfer[particles], self._transfer[rows]
        optimiser.zero_grad(set_to_none=True)
        weight = params.penalty * params.penalty_interval if number % params.penalty_interval == 0 else 0.0
        if weight and params.loss == "logistic":
            of_real, of_simulated = self._judge_and_hold(real, told, simulated, told_of_simulated, weight)
        else:
            of_real, of_simulated = self._judge(real, told, simulated, told_of_simulated)
            if weight:
                self._hold_between(real, told, simulated.detach(), weight)
        gradients = [p.grad for p in self.state.network.parameters() if p.grad is not None]
        self.team.average(gradients)
        if measure:
            self._measured["discriminator_loss"] = discriminator_loss(params.loss, of_real, of_simulated)
            self._measured["volume_loss"] = volume_loss(params.loss, of_simulated)
            self._measured["score_spread"] = torch.cat([of_real, of_simulated]).std()
            self._measured["discriminator_gradient"] = torch.nn.utils.get_total_norm(gradients)
        with record_function("optimisers"):
            optimiser.step()
        return of_simulated

    def _read(self, number: int, width: float) -> tuple[Tensor, Tensor]:
        """Features of real images, smoothed and reflected as asked for, and their particles."""
        state = self.state
        real, particles = self.images.batch(number)
        if width:  # the study's discriminator alone, whose features are the images
            real = prepare(real, self.params.normalise, width)
        if self._reflects:
            coins = torch.rand(self.params.batch, generator=state.generator, device=real.device)
            real = state.network.reflect(real, coins[self.team.share(self.params.batch)] < 0.5)
        return real, particles

    def _judge(self, real: Tensor, told: Tensor, simulated: Tensor, told_too: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss, real and simulated images in one pass. Returns the scores of either."""
        with record_function("discriminator"):
            scores = self.score(torch.cat([real, simulated]), torch.cat([told, told_too]))
            of_real, of_simulated = scores.split([len(real), len(simulated)])
            torch.autograd.backward(discriminator_loss(self.params.loss, of_real, of_simulated))
        return of_real.detach(), of_simulated.detach()

    def _judge_and_hold(
        self, real: Tensor, told: Tensor, simulated: Tensor, told_too: Tensor, weight: float
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`_judge`, and R1's: its points are the real images themselves, of which one pass serves both."""
        with record_function("discriminator"):
            of_simulated = self.score(simulated, told_too)
            torch.autograd.backward(softplus(of_simulated).mean())
        with record_function("penalty"):
            points = real.requires_grad_(True)
            # never compiled: what torch compiles cannot be differentiated twice
            of_real = self.state.network(points, told)
            held = penalty("logistic", of_real, points)
            torch.autograd.backward(softplus(-of_real).mean() + weight * held)
        return of_real.detach(), of_simulated.detach()

    def _hold_between(self, real: Tensor, told: Tensor, simulated: Tensor, weight: float) -> None:
        """Gradient of the penalty on interpolates."""
        with record_function("penalty"):
            count, share = self.params.batch, self.team.share(self.params.batch)
            mix = torch.rand(count, *[1] * (real.ndim - 1), generator=self.state.generator, device=real.device)[share]
            points = (mix * real + (1 - mix) * simulated).requires_grad_(True)
            held = penalty("wasserstein", self.state.network(points, told), points)
            torch.autograd.backward(weight * held)


def _weigh(gradient: Tensor, weights: Tensor) -> Tensor:
    """Gradients ``(image, ...)`` times one weight ``(image, 1)`` each."""
    return gradient * weights.view(-1, *[1] * (gradient.ndim - 1))
