"""Methods by name, found through entry points and imported only when one is asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from cryobench.errors import PluginError, UnknownName
from cryobench.reconstruct.contract import Reconstructor

GROUP = "cryobench.reconstructors"


def methods() -> dict[str, EntryPoint]:
    """Entry points of all registered methods by name; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def load_method(name: str) -> type[Reconstructor]:
    """The class of method ``name``.

    Raises:
        UnknownName: if no method of that name is registered.
        PluginError: if its module fails to import or what it names keeps not to the contract.
    """
    known = methods()
    if name not in known:
        raise UnknownName("method", name, known)
    point = known[name]
    origin = (
        f"the plugin for method {name!r} ({point.value} of {point.dist.name if point.dist else 'an unknown package'})"
    )
    try:
        method = point.load()
    except Exception as error:
        raise PluginError(
            f"expected {origin} to import, got {type(error).__name__}: {error}; reinstall or remove it"
        ) from error
    if not (isinstance(method, type) and issubclass(method, Reconstructor)):
        raise PluginError(f"expected {origin} to be a subclass of Reconstructor, got {method!r}")
    lacking = [a for a in ("name", "summary", "Params") if not hasattr(method, a)]
    if lacking or method.name != name:
        raise PluginError(
            f"expected {origin} to define name = {name!r}, summary and Params; it lacks {lacking or 'that name'}"
        )
    return method


def describe_methods() -> list[tuple[str, str, str]]:
    """Name, summary and package of every registered method; one that fails to import says so in its summary."""
    rows = []
    for name, point in methods().items():
        try:
            summary = load_method(name).summary
        except PluginError as error:
            summary = f"broken: {error}"
        rows.append((name, summary, point.dist.name if point.dist else ""))
    return rows


def describe_parameters(method: type[Reconstructor]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of every parameter of a method."""
    rows = []
    for name, field in method.Params.model_fields.items():
        kind = getattr(field.annotation, "__name__", None)
        if kind is None or kind == "Literal":
            kind = str(field.annotation).replace("typing.", "").removeprefix("Literal")
        default = "required" if field.is_required() else str(field.default)
        rows.append((name, kind.replace("[", "\\["), default, field.description or ""))
    return rows
