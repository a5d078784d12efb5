"""What alignment alone makes of two maps of nothing but noise; measured once for each box and symmetry, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import cryobench
from cryobench.dataset.store import versions
from cryobench.errors import StoreError
from cryobench.evaluate.align import align
from cryobench.evaluate.fsc import correlate
from cryobench.evaluate.move import apply
from cryobench.interop.atomic import written_whole
from cryobench.machine import cache_directory, processor, torch_threads
from cryobench.physics.symmetry import symmetrise
from cryobench.types import Volume

NOISE_DRAWS: Final = 4


def correlate_noise_halves(box: int, symmetry: str = "C1", draws: int = NOISE_DRAWS, seed: int = 0) -> Tensor:
    """FSC between maps of white noise, one aligned to the other: what alignment alone makes of nothing.

    Args:
        box: voxels along a side.
        symmetry: point group imposed on both maps first, as a method that knows it would.
        draws: pairs of maps.
        seed: of the noise.

    Returns:
        Curves ``(draws, box // 2 + 1)``, float64.
    """
    with torch_threads(1):
        return torch.stack(
            [
                correlate(first, apply(align(second, first, 1.0, symmetry), second))
                for first, second in _draw_halves(box, symmetry, draws, seed)
            ]
        )


def correlate_unmoved_noise_halves(box: int, symmetry: str = "C1", draws: int = NOISE_DRAWS, seed: int = 0) -> Tensor:
    """The same of the same maps as they are: what :func:`correlate_noise_halves` has beyond it, alignment alone put there."""
    with torch_threads(1):
        return torch.stack([correlate(*halves) for halves in _draw_halves(box, symmetry, draws, seed)])


def _draw_halves(box: int, symmetry: str, draws: int, seed: int) -> Iterator[tuple[Volume, Volume]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(draws):
        first, second = (
            symmetrise(torch.randn(box, box, box, generator=generator, dtype=torch.float64), symmetry) for _ in range(2)
        )
        yield first, second


def recall_noise_halves(box: int, symmetry: str) -> Tensor:
    """:func:`correlate_noise_halves`, from the user's cache where it was measured before with this very code, libraries and CPU.

    What is kept there is checked when it is read, and measured again where it is damaged or out of date.
    """
    path = cache_directory() / "noise_halves" / f"box{box}-{symmetry}.json"
    key = _fingerprint(box, symmetry)
    kept = _read(path, key, (NOISE_DRAWS, box // 2 + 1))
    if kept is None:
        kept = correlate_noise_halves(box, symmetry)
        with suppress(
            OSError, StoreError
        ):  # a full disc or a cache that may not be written costs time and nothing else
            _write(path, key, kept.tolist())
    return kept


def _fingerprint(box: int, symmetry: str) -> str:
    """Of all that the numbers depend on: the code that aligns and correlates, its libraries, and the processor."""
    sha = hashlib.sha256(json.dumps([box, symmetry, NOISE_DRAWS, versions(), processor()]).encode())
    package = Path(cryobench.__file__).parent
    for file in sorted(path for room in ("evaluate", "physics") for path in (package / room).glob("*.py")):
        sha.update(file.read_bytes())
    return sha.hexdigest()


def _read(path: Path, key: str, shape: tuple[int, int]) -> Tensor | None:
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        curves = torch.tensor(kept["curves"], dtype=torch.float64)
        whole = kept["key"] == key and kept["sha256"] == _digest(kept["curves"]) and tuple(curves.shape) == shape
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return curves if whole else None


def _write(path: Path, key: str, curves: Sequence[Sequence[float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"key": key, "sha256": _digest(curves), "curves": curves})
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _digest(curves: Sequence[Sequence[float]]) -> str:
    return hashlib.sha256(json.dumps(curves).encode()).hexdigest()
