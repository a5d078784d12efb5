"""Noticing that training has diverged, and the good states to which it then goes back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, final

from cryobench_cryogan.state import State

CERTAIN_LOSS: Final = 1e-4
"""A logistic loss below this says that the discriminator is certain of every image: the game is over."""
SAME_SCORE: Final = 1e-7
"""A spread of scores below this says that the discriminator looks at no image any more."""
PATIENCE: Final = 200
"""Volume steps for which either has to last before it is called a collapse."""
LARGEST_SCALE: Final = 100.0
"""Of signal and noise, either way: both start at 1, in units in which the data's deviation is 1."""
KEPT_EVERY: Final = 200
"""Volume steps between the states that are kept to go back to."""


@final
class Watch:
    """Looks at what is measured and says what is wrong with it."""

    def __init__(self, loss: str) -> None:
        self._loss, self._collapsed_since = loss, math.inf

    @property
    def suspects(self) -> bool:
        """Whether a collapse may have begun, which makes a state none to go back to."""
        return self._collapsed_since < math.inf

    def find(self, step: int, measured: Mapping[str, float]) -> str | None:
        """What has diverged at ``step``, in words; None where all is well."""
        for name, value in measured.items():
            if not math.isfinite(value):
                return f"the {name.replace('_', ' ')} is {value}"
        for name in ("signal_scale", "noise_scale"):
            if not 1 / LARGEST_SCALE < measured[name] < LARGEST_SCALE:
                return f"the {name.replace('_', ' ')} went from 1 to {measured[name]:.3g}"
        certain = self._loss == "logistic" and measured["discriminator_loss"] < CERTAIN_LOSS
        blind = measured["score_spread"] < SAME_SCORE
        self._collapsed_since = min(self._collapsed_since, step) if certain or blind else math.inf
        if step - self._collapsed_since < PATIENCE:
            return None
        self._collapsed_since = math.inf
        what = "was certain of every image" if certain else "gave every image the same score"
        return f"the discriminator {what} for {PATIENCE} steps"


@final
class GoodStates:
    """The last two states that were found well, in the host's memory."""

    def __init__(self, state: State) -> None:
        self._kept: deque[dict[str, Any]] = deque([state.copy()], maxlen=2)
        self._since = state.step

    def keep(self, state: State) -> None:
        """Keep a state, if it is time."""
        if state.step - self._since >= KEPT_EVERY:
            self._kept.append(state.copy())
            self._since = state.step

    def rewind(self, state: State, why: str, most: int) -> None:
        """Take ``state`` back to the last one that is kept, with learning rates halved; the next time to the one before.

        Raises:
            ArithmeticError: if that was done ``most`` times already.
        """
        if state.rewound >= most:
            advice = "smaller -p learning_rate_discriminator and -p learning_rate_volume"
            if state.simulator.params.discriminator == "convolutions":  # templates have no penalty
                advice += ", or a larger -p penalty"
            raise ArithmeticError(f"diverged at step {state.step} ({why}), after {most} rewinds; try {advice}")
        kept = self._kept.pop() if len(self._kept) > 1 else self._kept[0]
        times, notes, left, seconds = state.rewound + 1, state.notes, state.step, state.seconds
        state.load(kept)
        self._since = state.step
        state.rewound, state.seconds = times, seconds
        rates = f"learning rates at 1/{2**times}"
        state.notes = [*notes, f"Diverged at step {left} ({why}); went back to step {state.step} with {rates}."]
