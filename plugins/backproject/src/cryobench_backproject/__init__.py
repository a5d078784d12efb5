"""Wiener-weighted Fourier reconstruction from known poses, as a cryobench plugin."""

from cryobench_backproject.method import Backproject, BackprojectParams

__all__ = ["Backproject", "BackprojectParams"]
