"""The plugin's face: what it is called and what can be set. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import BaseModel, ConfigDict, Field

from cryobench.errors import Declined
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run

if TYPE_CHECKING:
    from cryobench.dataset.view import Observed


class RelionParams(BaseModel):
    """Parameters of :class:`Relion`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(300, ge=3, le=999, description="of gradient descent; a budget may allow fewer")
    first_subset: int = Field(100, ge=1, description="images of the first iterations; a budget may allow fewer")
    last_subset: int = Field(500, ge=1, description="images of the last iterations; a budget may allow fewer")
    first_resolution: float = Field(35.0, gt=0, allow_inf_nan=False, description="of the first iterations, angstrom")
    last_resolution: float = Field(20.0, gt=0, allow_inf_nan=False, description="of the last iterations, angstrom")
    initial_share: float = Field(0.5, gt=0, lt=1, description="of a budget that gradient descent may take")
    refine: bool = Field(
        False, description="after the initial model, refine with all images until the budget or `passes` are spent"
    )
    passes: int = Field(25, ge=2, le=999, description="over all images at most, with `refine`")
    tau2_fudge: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="RELION's T in passes over all images: above 1 data weigh more"
    )
    particle_diameter: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of the mask, angstrom; not given: the box less five pixels"
    )


@final
class Relion(Reconstructor):
    """RELION's initial model by stochastic gradient descent, and refinement (see :mod:`cryobench_relion.stages`)."""

    name: ClassVar[str] = "relion"
    summary: ClassVar[str] = "RELION's gradient-driven initial model, poses unknown, and refinement where asked"
    Params: ClassVar[type[BaseModel]] = RelionParams
    needs: ClassVar[Needs] = Needs(gpu="none", programs=("relion_refine", "relion_reconstruct"))

    def reconstruct(self, observed: Observed, params: RelionParams, run: Run) -> Reconstruction:
        """Drive RELION on an exported half-set in a scratch directory, which is removed whatever happens."""
        from tempfile import TemporaryDirectory

        from cryobench_relion.program import check_version
        from cryobench_relion.stages import Stages

        version = check_version()
        if observed.box % 2:
            raise Declined(f"RELION needs images of an even number of pixels, got {observed.box}; simulate an even box")
        run.restore()  # starts the clock; RELION's own continuation rounds what it keeps, so a stopped half begins anew
        with TemporaryDirectory(prefix="cryobench-relion-") as scratch:
            return Stages(scratch, observed, params, run, [f"RELION {version}."]).reconstruct()
