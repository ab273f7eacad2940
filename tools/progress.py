"""What runs, for how long, and how long it took last time: in place on a terminal; a log has a line when it ends."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

WORTH_TELLING = 5.0  # seconds: what took less last time needs no word


def seconds(duration: float) -> str:
    """A duration in seconds the way people read it: 0.4 s, 47 s, 3 min 05 s."""
    if duration < 9.95:
        return f"{duration:.1f} s"
    whole = round(duration)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02} s"


class Durations:
    """How long things took when they went well, in a file; what cannot be read is not known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def known(self) -> dict[str, float]:
        """All that is known, by what it is of."""
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        every = found.items() if isinstance(found, dict) else ()
        return {what: took for what, took in every if isinstance(took, (int, float))}

    def last(self, what: str) -> str:
        """How long it took last time, in words to put behind a name; nothing where it is not known, or was short."""
        took = self.known().get(what, 0.0)
        return f" ({seconds(took)} last time)" if took >= WORTH_TELLING else ""

    def keep(self, what: str, took: float) -> None:
        """Remember it for the next time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**self.known(), what: round(took, 1)}, indent=1, sort_keys=True))


class Line:
    """The last line of a terminal, drawn anew each second while something runs. Not there in a log."""

    shown: Line | None = None  # a terminal has one: what runs inside of something says its own above the line of that

    def __init__(self, text: Callable[[float], str], every: float = 1.0) -> None:
        self.text, self.every = text, every
        self.in_place = sys.stdout.isatty()
        self.began = time.monotonic()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._draw_until_over, daemon=True)

    def _draw_until_over(self) -> None:
        while not self.over.is_set():
            with self.lock:
                if not self.over.is_set():
                    self._draw()
            self.over.wait(self.every)

    def _draw(self) -> None:
        text = self.text(time.monotonic() - self.began)[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write(f"\r\033[K{text}")  # one that wraps could not be taken off
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Print something that stays, above this line."""
        with self.lock:
            print(f"\r\033[K{text}" if self.in_place else text, flush=True)
            if self.in_place and not self.over.is_set():
                self._draw()

    def __enter__(self) -> Line:
        if self.in_place:
            Line.shown = self
            self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if self.in_place:
            self.thread.join()
            Line.shown = None
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()
