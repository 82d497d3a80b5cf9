"""Lines that say how a run stands: state and progress, its figures, and how busy its machine is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from workbench.text import plain
from workbench.widgets.format import UNKNOWN, bar, count, duration, loss, rate, share, size

STATE_COLOURS = {
    "queued": "$text-muted",
    "running": "$text-success",
    "stopped": "$text-warning",
    "finished": "$text-primary",
    "failed": "$text-error",
    "dead": "$text-error",
    "imported": "$text-secondary",
}
STATE_SIGNS = {
    "running": "●",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "dead": "✗",
    "queued": "…",
    "imported": "↧",
}


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands. Losses in nats per token, times in seconds, memory in bytes; NaN is unknown."""

    name: str
    state: str
    step: int = 0
    max_steps: int | None = None
    train_loss: float = math.nan
    val_loss: float = math.nan
    val_se: float = math.nan
    best_val: float = math.nan
    lr: float = math.nan
    epoch: float = math.nan
    tokens_per_s: float = math.nan
    mfu: float = math.nan
    memory: float = math.nan
    eta: float = math.nan
    device: str = ""
    doing: str = ""  # a phase before the first step, or why it ended
    system: str = ""  # how busy the machine is, if the run says so
    reading: bool = False  # a first look is shown: the steps are being read
    stalled: float = 0.0  # seconds since it last got on, where that is long for it
    lost: bool = False  # the newest step's loss is not finite
    bits_per_byte: float = math.nan  # of the held-out text


class RunHeader(Widget):
    """Shows a ``RunStatus``; the figures that matter least are left out first where the line is short."""

    DEFAULT_CSS = """
    RunHeader { height: 2; padding: 0 1; }
    RunHeader.-system { height: 3; }
    """
    status: reactive[RunStatus | None] = reactive(None)
    probing: reactive[str] = reactive("")  # how far a probe is

    def render(self) -> Content:
        status, width = self.status, self.size.width
        if status is None:
            return Content("")
        lines = [self._progress(status, width), self._figures(status, width)]
        if self.probing or status.system:
            probing = Content.styled(plain(self.probing) + ("  " if self.probing else ""), "bold $text-accent")
            room = max(0, width - probing.cell_length)
            lines.append(probing + Content.styled(plain(status.system)[:room], "$text-muted"))
        return Content("\n").join(lines)

    def watch_status(self, status: RunStatus | None) -> None:
        """A third line where there is something to say on it."""
        self.set_class(status is not None and bool(status.system or self.probing), "-system")

    def watch_probing(self) -> None:
        """Likewise."""
        self.watch_status(self.status)

    def _progress(self, status: RunStatus, width: int) -> Content:
        colour = STATE_COLOURS.get(status.state, "")
        line = Content.styled(f"{STATE_SIGNS.get(status.state, '?')} {status.state}", f"bold {colour}")
        where = f"step {status.step:,}" + (f"/{status.max_steps:,}" if status.max_steps else "")
        if status.stalled:
            line += Content.styled(f"  nothing for {duration(status.stalled)}", "bold $text-warning")
        elif status.state == "running" and math.isfinite(status.eta):
            where += f"  ETA {duration(status.eta)}"
        fraction = min(1.0, status.step / status.max_steps) if status.max_steps else math.nan
        if math.isfinite(fraction):
            where = f"{fraction:.0%}  {where}"
        # Name and bar share what state and figures leave; the bar goes before the name is cut short.
        name = plain(status.name)
        room = width - line.cell_length - len(where) - 4
        bar_width = min(30, room - len(name) - 2) if math.isfinite(fraction) else 0
        bar_width = bar_width if bar_width >= 6 else 0
        name_width = max(8, room - (bar_width + 1 if bar_width else 0))
        name = name if len(name) <= name_width else name[: name_width - 1] + "…"
        line += Content.assemble("  ", (name, "bold"))
        line += " " * max(2, width - line.cell_length - len(where) - (bar_width + 1 if bar_width else 0))
        if bar_width:
            line += Content.assemble((bar(fraction, bar_width), f"{colour} on $foreground 15%"), " ")
        return line + where

    def _figures(self, status: RunStatus, width: int) -> Content:
        val = loss(status.val_loss) + (f" ±{status.val_se:.3f}" if math.isfinite(status.val_se) else "")
        parts = [("train", loss(status.train_loss)), ("val", val)]
        if status.best_val < status.val_loss - 1e-9:
            parts.append(("best", loss(status.best_val)))
        parts.append(("bpb", loss(status.bits_per_byte)))
        parts += [("lr", rate(status.lr)), ("epoch", UNKNOWN if math.isnan(status.epoch) else f"{status.epoch:.2f}")]
        parts += [("tok/s", count(status.tokens_per_s)), ("MFU", share(status.mfu)), ("mem", size(status.memory))]
        if status.device:
            parts.append(("on", plain(status.device)))
        line = Content(plain(status.doing))
        for label, value in parts:
            if value == UNKNOWN:
                continue
            piece = Content.assemble("  " if line else "", (f"{label} ", "$text-muted"), value)
            if line.cell_length + piece.cell_length <= width:
                line += piece
        return line


def one_line(status: RunStatus, verdict: str = "") -> str:
    """A run in one line of plain text, as one would paste it into a message; what is not known is left out."""
    where = f"step {status.step:,}" + (f"/{status.max_steps:,}" if status.max_steps else "")
    val = loss(status.val_loss) + (f" ± {status.val_se:.4f}" if math.isfinite(status.val_se) else "")
    known = [("train", loss(status.train_loss)), ("val", val), ("best val", loss(status.best_val))]
    known.append(("bits per byte", loss(status.bits_per_byte)))
    known += [("tok/s", count(status.tokens_per_s)), ("MFU", share(status.mfu))]
    parts = [plain(status.name), status.state, where, *(f"{k} {v}" for k, v in known if v != UNKNOWN)]
    return ", ".join([*parts, plain(verdict).replace("_", " ")] if verdict else parts)
