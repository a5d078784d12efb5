"""A program that does not outlive the process that started it, however that one ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

PREAMBLE: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel for the signal, makes sure that it did not ask too late, and becomes the program. An interpreter of its own,
because a process of several threads that forks may run next to nothing safely before it calls another program."""


def tether(command: Sequence[str]) -> list[str]:
    """The command that runs ``command`` so that, on Linux, it is killed when this process dies, be it by ``SIGKILL``.

    It belongs to the thread that starts it, and dies with that thread, too.
    """
    return [sys.executable, "-I", "-S", "-c", PREAMBLE, str(os.getpid()), *command]
