"""What a check of a scenario finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

Verdict: TypeAlias = Literal["holds", "fails", "not checked"]


@final
@dataclass(frozen=True)
class Finding:
    """One assumption: what it is, whether it holds, and the numbers that say so."""

    assumption: str
    verdict: Verdict
    numbers: str
