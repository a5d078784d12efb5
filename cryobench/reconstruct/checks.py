"""What is refused: names, values, devices and needs before any work is done, and results that break the contract after it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from cryobench.dataset.view import Observed
from cryobench.errors import Declined, InputError, PluginError, UnknownName
from cryobench.reconstruct.contract import Reconstruction, Reconstructor
from cryobench.reconstruct.registry import load_method
from cryobench.scenario.spec import explain


def parse_params(method: type[Reconstructor], params: Mapping[str, Any]) -> BaseModel:
    """The method's parameters, validated.

    Raises:
        UnknownName: if a parameter of that name does not exist.
        InputError: if a value does not fit.
    """
    known = method.Params.model_fields
    for name in params:
        if name not in known:
            raise UnknownName(f"parameter of method {method.name!r}", name, known)
    try:
        return method.Params.model_validate(dict(params))
    except ValidationError as error:
        raise InputError(f"method {method.name!r}: {explain(error)}") from error


def choose_device(method: type[Reconstructor], device: str | None) -> torch.device:
    """The device to compute on: the one named, else CUDA where it is and the method can use it.

    Raises:
        Declined: if the method needs a GPU, or a device that is not here was named.
    """
    has_gpu = torch.cuda.is_available()
    if device is None:
        device = "cuda" if has_gpu and method.needs.gpu != "none" else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"expected a device such as 'cpu', 'cuda' or 'cuda:1', got {device!r}") from error
    if chosen.type == "cuda" and not has_gpu:
        raise Declined(
            f"expected a CUDA device for --device {device}, found none; leave --device out to run on the CPU"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise Declined(f"expected one of {torch.cuda.device_count()} CUDA devices, counted from 0, got {device}")
    if method.needs.gpu == "required" and chosen.type != "cuda":
        raise Declined(f"method {method.name!r} needs a CUDA device, and {device} was chosen or found")
    return chosen


def check_needs(method: type[Reconstructor]) -> None:
    """Decline where a program that the method drives is missing."""
    missing = [program for program in method.needs.programs if shutil.which(program) is None]
    if missing:
        raise Declined(f"method {method.name!r} needs {', '.join(missing)} on the search path; install it first")


def check_method(
    name: str, params: Mapping[str, Any] | None, device: str | None
) -> tuple[type[Reconstructor], BaseModel, torch.device]:
    """The method, its validated parameters and its device; everything that can be refused before any work is."""
    method = load_method(name)
    parsed = parse_params(method, params or {})
    check_needs(method)
    return method, parsed, choose_device(method, device)


def check_result(result: Reconstruction, observed: Observed, name: str) -> None:
    """Refuse what a method may not return.

    Raises:
        PluginError: if it is no Reconstruction, or its parts are misshapen or not finite.
    """
    if not isinstance(result, Reconstruction):
        raise PluginError(f"expected method {name!r} to return a Reconstruction, got {type(result).__name__}")
    box, particles = observed.box, len(observed)
    shapes: dict[str, tuple[int | None, ...]] = {
        "volume": (box, box, box),
        "example_images": (None, box, box),
        "rotations": (particles, 3, 3),
        "shifts": (particles, 2),
    }
    for part, shape in shapes.items():
        values: torch.Tensor | None = getattr(result, part)
        if values is None and part != "volume":
            continue
        if values is None or not _fits(tuple(values.shape), shape) or not bool(torch.isfinite(values).all()):
            got = "None" if values is None else f"shape {tuple(values.shape)}"
            flawed = values is not None and not bool(torch.isfinite(values).all())
            raise PluginError(
                f"expected method {name!r} to return finite {part} of shape {str(shape).replace('None', 'any')}, got {got}"
                + (" with NaN or infinity" if flawed else "")
            )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected, strict=True))
