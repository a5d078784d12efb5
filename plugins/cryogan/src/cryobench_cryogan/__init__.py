"""CryoGAN (Gupta, McCann, Donati, Unser, IEEE TCI 7, 2021) as a cryobench method."""

from cryobench_cryogan.method import CryoGAN, Params

__all__ = ["CryoGAN", "Params"]
