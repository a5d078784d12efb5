"""The method as cryobench sees it: its name, needs and parameters. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run
from cryobench_cryogan.presets import PresetName, fill_in

if TYPE_CHECKING:
    from cryobench.reconstruct.contract import Observed


class Params(BaseModel):
    """Parameters of CryoGAN; the paper's names where it has them. The defaults are those of the preset ``fast``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: PresetName = Field(
        "fast",
        description="a whole set of parameters, over which single ones still go: 'fast' is ours and the defaults below; "
        "'convolutions' is ours with the study's kind of discriminator; "
        "'paper', 'paper-experimental' and 'paper-ribosome' are the published study's (table in the README)",
    )
    loss: Literal["logistic", "wasserstein"] = Field(
        "logistic",
        description="'wasserstein': the paper's, with gradient penalty; 'logistic': non-saturating, with a lazy R1 penalty",
    )
    steps: int | None = Field(
        4000, ge=1, description="volume steps for each half; or none, and 'epochs' in their place"
    )
    epochs: float | None = Field(
        None, gt=0, description="passes of the discriminator over the half's images, in place of 'steps'"
    )
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
    shuffle: bool = Field(
        False, description="every pass over the images takes each once, in a new order; false: drawn independently"
    )
    learning_rate_volume: float = Field(0.05, gt=0, description="Adam's step for the volume, at the start")
    learning_rate_discriminator: float = Field(
        4e-3, gt=0, description="Adam's step for the discriminator, at the start"
    )
    learning_rate_scales: float = Field(
        1e-3, ge=0, description="Adam's step for the logarithms of signal and noise scale"
    )
    final_rate: float = Field(
        0.03, gt=0, le=1, description="fraction of the learning rates that is left at the last step or the budget's end"
    )
    epoch_decay: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="fraction by which learning rates fall after every pass over the images, in place of final_rate",
    )
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's first moment")
    beta2: float = Field(0.9, ge=0, lt=1, description="Adam's second moment")
    epsilon: float = Field(1e-8, gt=0, description="Adam's term against division by zero")
    penalty: float = Field(
        0.0,
        ge=0,
        description="lambda: weight of mean((|grad| - 1)^2) on interpolates, or of R1's mean(|grad|^2) on real images",
    )
    penalty_interval: int = Field(
        4, ge=1, description="discriminator steps to one penalty (its weight grows alike); the paper's is 1"
    )
    discriminator: Literal["templates", "convolutions"] = Field(
        "templates",
        description="'convolutions': the paper's; 'templates': learned templates, held against an image at all in-plane angles "
        "with its CTF known",
    )
    templates: int = Field(128, ge=1, description="of the discriminator of that name")
    reflect: bool = Field(
        True,
        description="reflect every second real image, where poses are assumed uniform: a reflected projection is that of the "
        "opposite view",
    )
    coarsest: int | None = Field(
        16,
        ge=8,
        description="go from coarse to fine: the box is halved as often as at least so many pixels are left, and doubled on the "
        "way; by 'none' all training is at the data's box",
    )
    coarse_share: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="all boxes have the same number of steps; this fraction of the way, by learning rates and of a budget, at "
        "which the next box is left, a smaller one is",
    )
    channels: int = Field(16, ge=1, description="of the first convolution; every later one doubles them")
    hidden: int = Field(64, ge=1, description="width of the first fully connected layer")
    network_seed: int | None = Field(
        None,
        ge=0,
        description="of the discriminator's first weights, which both halves then share; "
        "by default they are drawn from each half's own seed and nothing is shared",
    )
    symmetrise: bool = Field(True, description="impose the symmetry that the dataset states")
    nonnegative: bool = Field(True, description="keep densities at or above zero")
    mask_radius: float = Field(0.9, gt=0, le=1, description="of the soft spherical mask, fraction of half the box")
    noise: Literal["patches", "paired", "spectrum"] = Field(
        "spectrum",
        description="'patches': the dataset's noise patches, turned at random; 'paired': patches as they are, each with the CTF "
        "of its own micrograph; 'spectrum': new noise of their spectrum",
    )
    whole_pixel_shifts: bool = Field(False, description="cut assumed shifts to whole pixels, towards zero")
    normalise: Literal["disc", "image"] = Field(
        "disc",
        description="'disc': images lose their mean and what lies beyond the Nyquist disc, and one scale holds for all; "
        "'image': every real and simulated image is brought to mean 0 and variance 1",
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        description="width (standard deviation, pixels) of a Gaussian over real and simulated images, at the start",
    )
    smoothing_decay: float = Field(
        0.0, ge=0, lt=1, description="fraction by which the smoothing's width falls with every pass over the images"
    )
    average: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the running mean of the volume that is returned; 0 returns the last",
    )
    snapshots: int = Field(12, ge=0, description="volumes kept for the resolution-over-time curve")
    rewinds: int = Field(
        3,
        ge=0,
        description="times to go back to a good state with halved learning rates after divergence, before giving up",
    )
    images: Literal["auto", "device", "host", "store"] = Field(
        "auto",
        description="where the images wait: in memory of the 'device' or the 'host', or in the 'store'; from the latter two a "
        "thread reads ahead; 'auto': the first of them that holds them; the result is the same but for rounding",
    )
    processes: int = Field(
        1,
        ge=1,
        description="that share every batch of one half (torch.distributed); with CUDA each has a device of its own",
    )
    compile: bool = Field(
        False, description="compile the discriminator with torch.compile (the penalty's pass stays as it is)"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        return fill_in(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _check_together(self) -> Params:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"expected either steps or epochs, got steps={self.steps} and epochs={self.epochs}")
        if self.discriminator == "templates" and (self.penalty or self.smoothing or self.loss == "wasserstein"):
            raise ValueError(
                "expected discriminator=convolutions with the Wasserstein loss, a penalty or smoothing, got templates, "
                "which have none of them; pass -p preset=convolutions, or leave these out"
            )
        if self.batch % self.processes:
            raise ValueError(
                f"expected a batch that {self.processes} processes can share evenly, got {self.batch}; take a multiple"
            )
        return self


@final
class CryoGAN(Reconstructor):
    """Finds the volume whose simulated images a discriminator cannot tell from the data; no pose is ever estimated."""

    name: ClassVar[str] = "cryogan"
    summary: ClassVar[str] = "Generative adversarial reconstruction without poses (Gupta et al., IEEE TCI 2021)."
    Params: ClassVar[type[BaseModel]] = Params
    needs: ClassVar[Needs] = Needs(gpu="optional")

    def reconstruct(self, observed: Observed, params: Params, run: Run) -> Reconstruction:
        """Algorithm 1 of the paper on one half-set."""
        from cryobench_cryogan.launch import train_in_team

        return train_in_team(observed, params, run)
