"""The method as cryobench sees it: its name, needs and parameters. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run

if TYPE_CHECKING:
    from cryobench.reconstruct.contract import Observed


class Params(BaseModel):
    """Parameters of CryoGAN; the paper's names where it has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Literal["logistic", "wasserstein"] = Field(
        "logistic",
        description="'wasserstein': the paper's, with gradient penalty; 'logistic': non-saturating, with a lazy R1 penalty",
    )
    steps: int = Field(4000, ge=1, description="volume steps for each half")
    together: bool = Field(
        True,
        description="move discriminator and volume on one batch and one backward pass (n_discr does not count); "
        "false: in turn, as in the paper",
    )
    bfloat16: bool | None = Field(
        None,
        description="convolve in bfloat16, the physics in float32; by default where the processor has the instructions",
    )
    batch: int = Field(64, ge=1, description="images in a step, real and simulated each")
    n_discr: int = Field(1, ge=1, description="discriminator steps to one volume step")
    learning_rate_volume: float = Field(0.05, gt=0, description="Adam's step for the volume, at the start")
    learning_rate_discriminator: float = Field(
        3e-3, gt=0, description="Adam's step for the discriminator, at the start"
    )
    learning_rate_scales: float = Field(
        1e-3, ge=0, description="Adam's step for the logarithms of signal and noise scale"
    )
    final_rate: float = Field(
        0.05, gt=0, le=1, description="fraction of the learning rates that is left at the last step"
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first moment")
    beta2: float = Field(0.9, ge=0, lt=1, description="Adam's second moment")
    penalty: float = Field(
        0.1,
        ge=0,
        description="lambda: weight of mean((|grad| - 1)^2) on interpolates, or of R1's mean(|grad|^2) on real images",
    )
    penalty_interval: int = Field(
        4, ge=1, description="discriminator steps to one penalty (its weight grows alike); the paper's is 1"
    )
    channels: int = Field(16, ge=1, description="of the first convolution; every later one doubles them")
    hidden: int = Field(10, ge=1, description="width of the first fully connected layer")
    symmetrise: bool = Field(True, description="impose the symmetry that the dataset states")
    nonnegative: bool = Field(True, description="keep densities at or above zero")
    mask_radius: float = Field(0.9, gt=0, le=1, description="of the soft spherical mask, fraction of half the box")
    noise: Literal["patches", "spectrum"] = Field(
        "spectrum",
        description="'patches': the dataset's noise patches, turned at random; 'spectrum': new noise of their spectrum",
    )
    average: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the running mean of the volume that is returned; 0 returns the last",
    )
    snapshots: int = Field(12, ge=0, description="volumes kept for the resolution-over-time curve")


@final
class CryoGAN(Reconstructor):
    """Finds the volume whose simulated images a discriminator cannot tell from the data; no pose is ever estimated."""

    name: ClassVar[str] = "cryogan"
    summary: ClassVar[str] = "Generative adversarial reconstruction without poses (Gupta et al., IEEE TCI 2021)."
    Params: ClassVar[type[BaseModel]] = Params
    needs: ClassVar[Needs] = Needs(gpu="optional")

    def reconstruct(self, observed: Observed, params: Params, run: Run) -> Reconstruction:
        """Algorithm 1 of the paper on one half-set."""
        from cryobench_cryogan.train import train

        return train(observed, params, run)
