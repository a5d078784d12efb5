"""Everything that training changes: kept in checkpoints, and in memory to go back to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from cryobench_cryogan.discriminator import Discriminator
from cryobench_cryogan.simulator import Simulator


@final
@dataclass
class State:
    """What the rest of the training depends on.

    Attributes:
        simulator, network: with the learned volume, scales and weights.
        volume_optimiser, network_optimiser: with their moments.
        generator: of every draw.
        average: running mean of the volume.
        step: volume steps done.
        seconds: of work so far, earlier tries included.
        rewound: times that training went back after it had diverged; learning rates are halved as often.
        notes: sentences for the report.
    """

    simulator: Simulator
    network: Discriminator
    volume_optimiser: torch.optim.Adam
    network_optimiser: torch.optim.Adam
    generator: torch.Generator
    average: Tensor
    step: int = 0
    seconds: float = 0.0
    rewound: int = 0
    notes: list[str] = field(default_factory=list)

    def take_over(self, previous: State) -> None:
        """Go on with the counters of training in a smaller box."""
        self.step, self.seconds = previous.step, previous.seconds
        self.rewound, self.notes = previous.rewound, previous.notes

    def save(self) -> dict[str, Any]:
        """Tensors, numbers and sentences from which training goes on exactly; the tensors are the live ones."""
        return {
            "box": self.simulator.observed.box,
            "simulator": self.simulator.state_dict(),
            "network": self.network.state_dict(),
            "volume_optimiser": self.volume_optimiser.state_dict(),
            "network_optimiser": self.network_optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
            "rewound": self.rewound,
            "notes": list(self.notes),
        }

    def load(self, kept: dict[str, Any]) -> None:
        """Undo of :meth:`save`. What was kept stays as it is."""
        own = copy_tensors(kept, self.average.device)  # optimisers would go on in the kept tensors themselves
        self.simulator.load_state_dict(own["simulator"])
        self.network.load_state_dict(own["network"])
        self.volume_optimiser.load_state_dict(own["volume_optimiser"])
        self.network_optimiser.load_state_dict(own["network_optimiser"])
        for optimiser in (self.volume_optimiser, self.network_optimiser):
            for moments in optimiser.state.values():
                moments["step"] = moments["step"].cpu()  # where Adam counts: a GPU would be waited for at every one
        self.generator.set_state(own["generator"].cpu())
        self.average, self.step, self.seconds = own["average"], own["step"], own["seconds"]
        self.rewound, self.notes = own["rewound"], list(own["notes"])

    def copy(self) -> dict[str, Any]:
        """As :meth:`save`, in the host's memory and untouched by further training."""
        return copy_tensors(self.save(), torch.device("cpu"))


def copy_tensors(thing: Any, device: torch.device) -> Any:
    """A nest of dictionaries and lists with copies of its tensors on ``device``."""
    if isinstance(thing, Tensor):
        return thing.detach().to(device, copy=True)
    if isinstance(thing, dict):
        return {key: copy_tensors(value, device) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return type(thing)(copy_tensors(value, device) for value in thing)
    return thing
