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
