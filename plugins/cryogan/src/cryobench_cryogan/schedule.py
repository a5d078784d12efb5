"""How long training lasts, and what changes on the way: the box, learning rates and the width of the smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from cryobench_cryogan.method import Params


@final
@dataclass(frozen=True)
class Schedule:
    """A function of the volume step and, where there is a budget, of how much of it is spent.

    Attributes:
        params: of the method.
        images: in the half-set; an epoch is one pass of the discriminator over so many.
        box: of the data.
    """

    params: Params
    images: int
    box: int

    @property
    def boxes(self) -> list[int]:
        """Sides of the images that training goes through, coarse to fine; the last is the data's."""
        found = [self.box]
        while self.params.coarsest is not None and (half := found[0] // 4 * 2) >= self.params.coarsest:
            found.insert(0, half)
        return found

    @property
    def _ends(self) -> list[float]:
        """Progress at which each box is left: ``coarse_share`` of that of the next one, and 1 for the last."""
        count = len(self.boxes)
        return [self.params.coarse_share ** (count - 1 - place) for place in range(count)]

    def progress(self, step: int, spent: float) -> float:
        """How much of the training is done, 0 to 1: by its steps or by the budget, whichever is more.

        All boxes have the same number of steps, which cost the less the smaller the box is.
        """
        ends = [0.0, *self._ends]
        place = min(step * len(self.boxes) // self.steps, len(self.boxes) - 1)
        within = min(step * len(self.boxes) / self.steps - place, 1.0)
        return min(max(ends[place] + within * (ends[place + 1] - ends[place]), spent), 1.0)

    def left(self, step: int) -> float:
        """Steps still to come, counted in those of the box at hand, as those of later boxes cost more."""
        if step >= self.steps:
            return 0.0
        done = self.progress(step, 0.0)
        return (1 - done) / (self.progress(step + 1, 0.0) - done)

    def box_at(self, progress: float) -> int:
        """Side of the images when so much is done."""
        return self.boxes[sum(progress >= end for end in self._ends[:-1])]

    @property
    def images_per_step(self) -> int:
        """Real images that the discriminator sees in one volume step."""
        return self.params.batch * (1 if self.params.together else self.params.n_discr)

    @property
    def steps(self) -> int:
        """Volume steps in all."""
        if self.params.steps is not None:
            return self.params.steps
        assert self.params.epochs is not None
        return math.ceil(self.params.epochs * self.images / self.images_per_step)

    def epoch(self, step: int) -> float:
        """Passes over the images when ``step`` volume steps are done."""
        return step * self.images_per_step / self.images

    def rate(self, step: int, spent: float) -> float:
        """What is left of the learning rates, a fraction.

        With ``epoch_decay`` it falls after every whole epoch (paper, section IV), whatever the budget; else exponentially to
        ``final_rate`` at the last step or, if sooner, at the end of the budget.

        Args:
            step: volume steps done.
            spent: fraction of the budget that is spent; 0 where there is none.
        """
        if self.params.epoch_decay is not None:
            return (1 - self.params.epoch_decay) ** math.floor(self.epoch(step))
        return self.params.final_rate ** self.progress(step, spent)

    def width(self, step: int) -> float:
        """Standard deviation of the images' smoothing in pixels."""
        return self.params.smoothing * (1 - self.params.smoothing_decay) ** self.epoch(step)

    def marks(self) -> set[int]:
        """Steps at which snapshots are due: denser at the start, where the volume changes most."""
        count = self.params.snapshots
        return {round(self.steps * (k + 1) ** 2 / count**2) for k in range(count)}

    def due(self, step: int, spent: float) -> int:
        """Snapshots that are due so far: by the steps done or, if that is more, by as much of the budget."""
        return max(sum(step >= mark for mark in self.marks()), math.floor(self.params.snapshots * spent**0.5))
