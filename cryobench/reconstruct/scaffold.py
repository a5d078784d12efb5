"""A new method's distribution, small and complete: what ``cryobench plugin new`` writes."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Final

from cryobench.errors import InputError
from cryobench.reconstruct.registry import methods

TEMPLATES: Final = Path(__file__).parent / "template"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME: Final = 40


def write_plugin(name: str, into: Path) -> Path:
    """Write the distribution ``cryobench-NAME`` with a method that works, its conformance tests and a README.

    Args:
        name: of the method, as ``--method`` will take it: lower-case words with hyphens between them, such as ``my-method``.
        into: directory in which to make the distribution's own; made if need be.

    Returns:
        The distribution's directory.

    Raises:
        InputError: if the name does not fit or is taken, or the directory exists.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InputError(
            f"expected a method name of lower-case letters, digits and single hyphens, such as 'my-method', got {name!r}"
        )
    if name in methods():
        raise InputError(f"expected a new method name, got {name!r}, which is installed already; choose another")
    distribution = f"cryobench-{name}"
    directory = into / distribution
    if directory.exists():
        raise InputError(f"expected nothing at {directory}, found something; choose another name or directory")
    if into.exists() and not into.is_dir():
        raise InputError(f"expected a directory at {into}, found a file")
    words = {
        "name": name,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "class_name": "".join(word.capitalize() for word in name.split("-")),
    }
    package = Path("src") / words["module"]
    for template, target in {
        "pyproject.toml.in": Path("pyproject.toml"),
        "README.md.in": Path("README.md"),
        "init.py.in": package / "__init__.py",
        "method.py.in": package / "method.py",
        "radial.py.in": package / "radial.py",
        "test_conformance.py.in": Path("tests/test_conformance.py"),
    }.items():
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)
        path = directory / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory
