"""One step of training: discriminator and volume moved once (Algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.profiler import record_function

from cryobench_cryogan.images import RealImages
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
        bfloat16: whether the discriminator convolves in it.
    """

    def __init__(self, params: Params, state: State, images: RealImages, team: Team, bfloat16: bool) -> None:
        self.params, self.state, self.images, self.team, self.bfloat16 = params, state, images, team, bfloat16
        self._network: Callable[[Tensor], Tensor] = torch.compile(state.network) if params.compile else state.network
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

    def score(self, images: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Discriminator scores ``(batch, 1)``, convolved in bfloat16 where asked."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            return (network or self._network)(images).float()

    def _score_plainly(self, images: Tensor) -> Tensor:
        """As :meth:`score`, never compiled: what torch compiles cannot be differentiated twice."""
        return self.score(images, self.state.network)

    def _move_together(self, width: float, measure: bool) -> None:
        """Both moves on one batch and one backward pass: the volume's gradient is the discriminator's, reweighted."""
        state, params = self.state, self.params
        with record_function("physics"):
            images = state.simulator(params.batch, width)[:, None]
        leaf = images.detach().requires_grad_(True)
        scores = self._discriminate(leaf, state.step, width, measure)
        assert leaf.grad is not None
        state.volume_optimiser.zero_grad(set_to_none=True)
        with record_function("physics"):
            torch.autograd.backward(images, leaf.grad * volume_slope(params.loss, scores)[:, :, None, None])

    def _move_in_turn(self, width: float, measure: bool) -> None:
        """``n_discr`` discriminator steps, then the volume's gradient under the moved discriminator (Algorithm 1)."""
        state, params = self.state, self.params
        with record_function("physics"):
            spectrum = state.simulator.transform()  # once: the volume stands still while the discriminator moves
        still = detach(spectrum)
        for turn in range(params.n_discr):
            with record_function("physics"), torch.no_grad():
                simulated = state.simulator.simulate(still, params.batch, width)[:, None]
            last = turn == params.n_discr - 1
            self._discriminate(simulated, state.step * params.n_discr + turn, width, measure and last)
        with record_function("physics"):
            images = state.simulator.simulate(spectrum, params.batch, width)[:, None]
        leaf = images.detach().requires_grad_(True)
        with record_function("discriminator"):
            (slope,) = torch.autograd.grad(volume_loss(params.loss, self.score(leaf)), leaf)
        state.volume_optimiser.zero_grad(set_to_none=True)
        with record_function("physics"):
            torch.autograd.backward(images, slope)

    def _discriminate(self, simulated: Tensor, number: int, width: float, measure: bool) -> Tensor:
        """Discriminator step ``number``. Returns the scores of the simulated images.

        Where ``simulated`` asks for a gradient it is left there, before the discriminator moves.
        """
        params, optimiser = self.params, self.state.network_optimiser
        with record_function("input"):
            real = self.images.batch(number)
            if width:
                real = prepare(real, params.normalise, width)
        optimiser.zero_grad(set_to_none=True)
        weight = params.penalty * params.penalty_interval if number % params.penalty_interval == 0 else 0.0
        if weight and params.loss == "logistic":
            of_real, of_simulated = self._judge_and_hold(real, simulated, weight)
        else:
            of_real, of_simulated = self._judge(real, simulated)
            if weight:
                self._hold_between(real, simulated.detach(), weight)
        gradients = [p.grad for p in self.state.network.parameters() if p.grad is not None]
        self.team.average(gradients)
        if measure:
            self._measured["discriminator_loss"] = discriminator_loss(params.loss, of_real, of_simulated)
            self._measured["score_spread"] = torch.cat([of_real, of_simulated]).std()
            self._measured["discriminator_gradient"] = torch.nn.utils.get_total_norm(gradients)
        with record_function("optimisers"):
            optimiser.step()
        return of_simulated

    def _judge(self, real: Tensor, simulated: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the loss, real and simulated images in one pass. Returns the scores of either."""
        with record_function("discriminator"):
            scores = self.score(torch.cat([real, simulated]))
            of_real, of_simulated = scores.split([len(real), len(simulated)])
            torch.autograd.backward(discriminator_loss(self.params.loss, of_real, of_simulated))
        return of_real.detach(), of_simulated.detach()

    def _judge_and_hold(self, real: Tensor, simulated: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """As :meth:`_judge`, and R1's: its points are the real images themselves, of which one pass serves both."""
        with record_function("discriminator"):
            of_simulated = self.score(simulated)
            torch.autograd.backward(softplus(of_simulated).mean())
        with record_function("penalty"):
            points = real.requires_grad_(True)
            of_real = self._score_plainly(points)
            held = penalty("logistic", of_real, points)
            torch.autograd.backward(softplus(-of_real).mean() + weight * held)
        return of_real.detach(), of_simulated.detach()

    def _hold_between(self, real: Tensor, simulated: Tensor, weight: float) -> None:
        """Gradient of the penalty on interpolates."""
        with record_function("penalty"):
            count, share = self.params.batch, self.team.share(self.params.batch)
            mix = torch.rand(count, 1, 1, 1, generator=self.state.generator, device=real.device)[share]
            points = (mix * real + (1 - mix) * simulated).requires_grad_(True)
            held = penalty("wasserstein", self._score_plainly(points), points)
            torch.autograd.backward(weight * held)
