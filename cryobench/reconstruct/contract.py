"""What a method is, what it is given, and what it gives back. Imports nothing heavy: plugins register through this module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from cryobench.errors import Declined

if TYPE_CHECKING:
    import torch

    from cryobench.dataset.view import Batch, Observed
    from cryobench.types import Images, Rotations, Shifts, Volume

__all__ = ["Batch", "Declined", "Needs", "Observed", "Reconstruction", "Reconstructor", "Run"]


def __getattr__(name: str) -> Any:
    if name in ("Batch", "Observed"):  # these stand on torch and xarray, which registering a method must not import
        from cryobench.dataset import view

        return getattr(view, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True)
class Needs:
    """What a method cannot do without. The harness checks it and declines before any work is done.

    Attributes:
        gpu: ``"none"`` (runs on the CPU only), ``"optional"`` or ``"required"``.
        poses: needs the poses and shifts of the images; its results are marked "oracle poses" wherever they are shown.
        programs: executables that must be on the search path.
        memory_bytes_per_voxel: of the volume, roughly; None where it is not known.
    """

    gpu: Literal["none", "optional", "required"] = "optional"
    poses: bool = False
    programs: tuple[str, ...] = ()
    memory_bytes_per_voxel: float | None = None


class Run(Protocol):
    """The harness's hand in a method: its seed and device, its clock, and where it leaves what it has.

    Attributes:
        seed: of this half, to be used for every draw of the method.
        device: to compute on.
    """

    seed: int
    device: torch.device

    def remaining(self) -> float:
        """Seconds left of the budget; infinity where there is none. A method stops in time and returns its best."""
        ...

    def progress(self, step: int, total: int, images_seen: int = 0, **scalars: float) -> None:
        """Report where the method is; scalars become the history that the report draws. Cheap: call it every step.

        A scalar ``seconds_left`` is what users are shown as the time left, in place of an estimate from the pace so far.
        """
        ...

    def snapshot(self, volume: Volume, images_seen: int = 0) -> None:
        """Keep a volume, from which the resolution-over-time curve is drawn. The clock stops while it is written."""
        ...

    def checkpoint(self, state: Mapping[str, Any], step: int) -> None:
        """Keep tensors and numbers from which the method can go on (atomic; no pickled code)."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The last checkpoint of this very run, or None at a fresh start."""
        ...


@dataclass(frozen=True)
class Reconstruction:
    """What a method returns for one half-set.

    Attributes:
        volume: ``(z, y, x)`` at the observed box and voxel size.
        example_images: ``(example, y, x)`` images that the method simulated, for the report; or None.
        rotations: estimated poses ``(particle, 3, 3)``, or None.
        shifts: estimated shifts ``(particle, 2)`` in angstrom, or None.
        notes: sentences for the report.
    """

    volume: Volume
    example_images: Images | None = None
    rotations: Rotations | None = None
    shifts: Shifts | None = None
    notes: list[str] = field(default_factory=list)


class Reconstructor(ABC):
    """A method. Subclass it, register the class under the entry point group ``cryobench.reconstructors``.

    The module that defines the subclass imports nothing heavy (no torch, no scipy) until ``reconstruct`` is called.
    """

    name: ClassVar[str]
    """What ``--method`` takes."""
    summary: ClassVar[str]
    """One line for ``cryobench method list``."""
    Params: ClassVar[type[BaseModel]]
    """Its parameters, with defaults and descriptions; extra names are forbidden."""
    needs: ClassVar[Needs] = Needs()

    @abstractmethod
    def reconstruct(self, observed: Observed, params: Any, run: Run) -> Reconstruction:
        """Reconstruct a volume from one half-set. ``params`` is an instance of :attr:`Params`.

        Raises:
            Declined: if it cannot work on this input or machine, before any work is done.
        """
