"""A scenario becomes ``observed.zarr`` and ``truth.zarr``: shard by shard, resumable, the same bytes for any worker count."""

from cryobench.simulate.run import simulate

__all__ = ["simulate"]
