"""RELION's gradient-driven initial model and refinement, as a cryobench plugin."""

from cryobench_relion.method import Relion, RelionParams

__all__ = ["Relion", "RelionParams"]
