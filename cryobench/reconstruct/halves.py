"""Both half-sets at once: one process each, with half of the cores, reporting to the parent through a queue."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from queue import Empty
from typing import Any

import torch

from cryobench import errors
from cryobench.errors import CryobenchError, PluginError
from cryobench.machine import available_cores, keep_freed_memory, torch_threads

Work = Callable[[int, Callable[[int, int, dict[str, float]], None]], None]
"""Called with (half, on_progress); must be picklable."""


def threads_per_half() -> int:
    """Torch threads of one half: the same whether the halves run together or in turn, as results depend on it."""
    return max(1, available_cores() // 2)


def run_in_turn(work: Work, halves: list[int], on_progress: Callable[[int, int, int, dict[str, float]], None]) -> None:
    """Run the halves one after the other in this process."""
    keep_freed_memory()
    with torch_threads(threads_per_half()):
        for half in halves:
            work(half, lambda step, total, scalars, half=half: on_progress(half, step, total, scalars))  # type: ignore[misc]


def _child(work: Work, half: int, queue: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads_per_half())
    keep_freed_memory()
    try:
        work(half, lambda step, total, scalars: queue.put((half, "progress", (step, total, scalars))))
        queue.put((half, "done", None))
    except KeyboardInterrupt:
        # a write that was interrupted is told of as this process ends; half-written stores are known as such
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        queue.cancel_join_thread()  # the parent may read no more
        queue.put((half, "stopped", None))
    except CryobenchError as error:
        queue.put((half, "error", (type(error).__name__, str(error), traceback.format_exc())))
    except Exception as error:
        queue.put((half, "error", ("PluginError", f"{type(error).__name__}: {error}", traceback.format_exc())))


def _leave_with_parent() -> None:
    """Stop this process when its parent is killed: a second run of the same command must not find it still writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        os._exit(1)


def run_together(work: Work, halves: list[int], on_progress: Callable[[int, int, int, dict[str, float]], None]) -> None:
    """Run the halves side by side; when one fails or the parent is stopped, the others are stopped and left resumable."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    children: dict[int, BaseProcess] = {
        half: context.Process(target=_child, args=(work, half, queue)) for half in halves
    }
    running = set(halves)
    try:
        with _interrupts_ignored():  # inherited, so that Ctrl-C does not break a child that is still importing
            for child in children.values():
                child.start()
        while running:
            try:
                half, kind, content = queue.get(timeout=1.0)
            except Empty:
                _check_alive(children, running)
                continue
            if kind == "progress":
                on_progress(half, *content)
            elif kind == "error":
                raise _revive(*content)
            elif kind == "stopped":
                raise KeyboardInterrupt
            else:
                running.discard(half)
    finally:
        for half in running:
            _stop(children[half])
        for child in children.values():
            child.join()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_alive(children: dict[int, BaseProcess], running: set[int]) -> None:
    for half in running:
        if not children[half].is_alive():
            raise PluginError(
                f"the process of half {half} ended without a word (exit code {children[half].exitcode}; -9 often means that "
                "memory ran out); run the same command again to go on, or with --workers 1 to run the halves in turn"
            )


def _revive(name: str, message: str, trace: str) -> CryobenchError:
    kind = getattr(errors, name, CryobenchError)
    error: CryobenchError = kind.__new__(kind)
    error.args = (message,)
    error.add_note(trace)  # shown with --debug
    return error


def _stop(child: BaseProcess) -> None:
    """As Ctrl-C would, so that history is written; by force where that does not help within ten seconds."""
    for _ in range(20):
        if not child.is_alive() or child.pid is None:
            return
        os.kill(child.pid, signal.SIGINT)
        child.join(timeout=0.5)
    child.kill()
