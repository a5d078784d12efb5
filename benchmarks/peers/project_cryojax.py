"""cryoJAX's side of the comparison: the same images by its jitted, vmapped image model, in an environment of its own.

    python project_cryojax.py CASE.npz OUT.npy [--batch 100] [--pad 1]

Needs ``pip install cryojax``. The images are written as they are made, into a memory-mapped array.
"""

from __future__ import annotations

import argparse

import cryojax.simulator as cxs
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("out")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--pad", type=float, default=1.0, help="zero-padding of the volume; 1 is its fastest")
    options = parser.parse_args()
    case = np.load(options.case)
    volume, pixel, count = case["volume"], float(case["pixel_size"]), len(case["quaternion"])
    box = volume.shape[0]
    voxels = cxs.FourierVoxelGridVolume.from_real_voxel_grid(volume, pad_scale=options.pad)
    optics = {"voltage": float(case["voltage"]), "cs": float(case["spherical_aberration"])}

    def project(quaternion, shift, defocus_u, defocus_v, angle, voxels):
        config = cxs.BasicImageConfig((box, box), pixel, optics["voltage"], pad_scale=options.pad)
        pose = cxs.QuaternionPose(shift[0], shift[1], jnp.roll(quaternion, 1))  # scalar first there
        ctf = cxs.AstigmaticCTF((defocus_u + defocus_v) / 2, defocus_u - defocus_v, angle, optics["cs"])
        theory = cxs.ContrastTransferTheory(ctf, amplitude_contrast_ratio=float(case["amplitude_contrast"]))
        return cxs.make_image_model(voxels, config, pose, theory).simulate()

    batched = eqx.filter_jit(jax.vmap(project, in_axes=(0, 0, 0, 0, 0, None)))
    columns = [case[name] for name in ("quaternion", "shift", "defocus_u", "defocus_v", "defocus_angle")]
    out = np.lib.format.open_memmap(options.out, mode="w+", dtype=np.float32, shape=(count, box, box))
    for start in range(0, count, options.batch):
        rows = slice(start, start + options.batch)
        out[rows] = np.asarray(batched(*(jnp.asarray(column[rows], dtype=jnp.float32) for column in columns), voxels))
    out.flush()


if __name__ == "__main__":
    main()
