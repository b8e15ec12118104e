"""Draw the pictures of the documentation: SVG files beside this script.

The colours are classes, so that a picture follows the reader's dark or light setting.

    python docs/pictures/draw.py
"""

from __future__ import annotations

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f; }
  .small { font-size: 12px; } .strong { font-weight: 600; } .soft { fill: #57606a; }
  .line, .arrow { stroke: #57606a; stroke-width: 1.5; fill: none; }
  .head { fill: #57606a; }
  .box { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.2; }
  .memory { fill: #d8f0ec; stroke: #00796b; stroke-width: 1.5; }
  .attention { fill: #e4e9fb; stroke: #3f51b5; stroke-width: 1.5; }
  .fixed { fill: #fbe9d0; stroke: #b35c00; stroke-width: 1.5; }
  .accent { fill: #00796b; } .accent-line { stroke: #00796b; stroke-width: 2; fill: none; }
  .warm { fill: #c2410c; } .warm-line { stroke: #c2410c; stroke-width: 2; fill: none; }
  .band { fill: #00796b; fill-opacity: .18; }
  .ink-line { stroke: #24292f; stroke-width: 1.5; fill: none; }
  .grid { stroke-opacity: .25; stroke-width: 1; }
  .dashed { stroke-dasharray: 5 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .soft { fill: #9198a1; }
    .line, .arrow { stroke: #9198a1; } .head { fill: #9198a1; }
    .box { fill: #21262d; stroke: #6e7681; }
    .memory { fill: #0f3a35; stroke: #4db6ac; }
    .attention { fill: #232c54; stroke: #9fa8da; }
    .fixed { fill: #4a3112; stroke: #f0a04b; }
    .accent { fill: #4db6ac; } .accent-line { stroke: #4db6ac; }
    .warm { fill: #fb923c; } .warm-line { stroke: #fb923c; }
    .band { fill: #4db6ac; fill-opacity: .25; }
    .ink-line { stroke: #e6edf3; }
  }
"""


class Picture:
    """An SVG drawing of a width and a height, with a title and a description for screen readers."""

    def __init__(self, name: str, width: int, height: int, title: str, description: str) -> None:
        self.name, self.width, self.height = name, width, height
        self.title, self.description = title, description
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write words; (x, y) is the middle of their base line, or its start."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'
        )

    def box(
        self, x: float, y: float, w: float, h: float, *lines: str, kind: str = "box"
    ) -> tuple[float, float]:
        """Draw a box with lines of text, and return its middle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" class="{kind}"/>'
        )
        for i, words in enumerate(lines):
            middle = y + h / 2 + 5 + 17 * (i - (len(lines) - 1) / 2)
            self.text(x + w / 2, middle, words, "strong" if i == 0 else "small soft")
        return x + w / 2, y + h / 2

    def path(self, points: list[tuple[float, float]], kind: str = "line") -> None:
        """Draw a line through points."""
        data = " ".join(
            f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points)
        )
        self.parts.append(f'<path d="{data}" class="{kind}"/>')

    def area(self, low: list[tuple[float, float]], high: list[tuple[float, float]]) -> None:
        """Fill what is between two lines."""
        self.path([*low, *reversed(high)], "band")

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points with a head at its end; the last part is straight."""
        (x0, y0), (x1, y1) = points[-2:]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        u, v = (x1 - x0) / length, (y1 - y0) / length
        stop = (x1 - 8 * u, y1 - 8 * v)
        self.path([*points[:-1], stop], "arrow")
        corners = [(x1, y1), (stop[0] - 4 * v, stop[1] + 4 * u), (stop[0] + 4 * v, stop[1] - 4 * u)]
        data = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self.parts.append(f'<polygon points="{data}" class="head"/>')

    def bar(self, x: float, base: float, w: float, h: float, kind: str) -> None:
        """Draw a bar that stands on `base`."""
        self.parts.append(
            f'<rect x="{x:g}" y="{base - h:.1f}" width="{w:g}" height="{h:.1f}" class="{kind}"/>'
        )

    def svg(self) -> str:
        """Return the file's content."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img" aria-labelledby="{self.name}-title {self.name}-desc">'
        )
        words = (
            f'<title id="{self.name}-title">{escape(self.title)}</title>\n'
            f'<desc id="{self.name}-desc">{escape(self.description)}</desc>'
        )
        return "\n".join([head, words, f"<style>{STYLE}</style>", *self.parts, "</svg>", ""])


def surprise() -> Picture:
    """One token: how the memory learns from it."""
    p = Picture(
        "surprise",
        720,
        250,
        "Surprise: one step of the memory",
        "A token becomes a key, a value and a query. The memory predicts the value from the key. The "
        "gradient of the squared error is the surprise; it changes the memory, which is then read.",
    )
    p.box(10, 90, 80, 50, "token", "x")
    for y, name in ((30, "key k"), (90, "value v"), (150, "query q")):
        p.box(130, y, 90, 50, name)
        p.arrow((90, 115), (110, 115), (110, y + 25), (130, y + 25))
    p.box(270, 30, 150, 50, "memory M", "predicts M(k)", kind="memory")
    p.arrow((220, 55), (270, 55))
    p.box(470, 60, 110, 50, "error", "|M(k) − v|²")
    p.arrow((420, 55), (445, 55), (445, 75), (470, 75))
    p.arrow((220, 115), (445, 115), (445, 95), (470, 95))
    p.box(620, 60, 90, 50, "surprise", "gradient")
    p.arrow((580, 85), (620, 85))
    p.arrow((665, 60), (665, 15), (345, 15), (345, 30))
    p.text(520, 11, "write: change the weights against the gradient", "small soft")
    p.box(270, 150, 150, 50, "memory M", "one write later", kind="memory")
    p.arrow((220, 175), (270, 175))
    p.box(470, 150, 110, 50, "output", "M(q)")
    p.arrow((420, 175), (470, 175))
    p.text(
        360, 235, "A token that is predicted well changes nothing; a surprising one changes much."
    )
    return p


def momentum() -> Picture:
    """Momentary surprise, and what is written with momentum."""
    p = Picture(
        "momentum",
        720,
        260,
        "Momentum: surprise carries over to the next tokens",
        "Two rows of bars over the same tokens. Above, the momentary surprise, high at one token. "
        "Below, what is written, which also stays high for some tokens after it.",
    )
    shocks = [6, 5, 8, 6, 62, 14, 8, 6, 5, 7, 6, 5, 6, 7, 5, 6]
    written, carried = [], 0.0
    for s in shocks:
        carried = 0.65 * carried + 0.5 * s
        written.append(carried)
    for row, (name, values, kind) in enumerate(
        (("momentary surprise", shocks, "warm"), ("what is written", written, "accent"))
    ):
        base = 100 + 110 * row
        p.text(10, base - 62, name, "strong", "start")
        p.path([(180, base), (700, base)])
        for i, value in enumerate(values):
            p.bar(188 + 32 * i, base, 18, value, kind)
    p.text(197 + 32 * 4, 24, "an event", "small soft")
    p.text(440, 240, "tokens, in the order in which they are read", "small soft")
    return p


def forgetting() -> Picture:
    """What is left of a write."""
    p = Picture(
        "forgetting",
        720,
        260,
        "Forgetting: what is left of a write",
        "Three curves over tokens: without forgetting a write stays; with a forgetting of one or five "
        "per cent a token it fades towards the learned first memory.",
    )
    p.path([(60, 20), (60, 210), (700, 210)])
    p.text(66, 18, "share of a write that is left", "small soft", "start")
    p.text(
        380,
        240,
        "tokens after the write; without it the memory is M₀, the learned start",
        "small soft",
    )
    for alpha, kind, words, where in (
        (0.0, "ink-line", "α = 0: nothing is forgotten", (470, 30)),
        (0.01, "accent-line", "α = 0.01", (470, 121)),
        (0.05, "warm-line", "α = 0.05", (232, 158)),
    ):
        p.path([(60 + 5 * t, 210 - 170 * (1 - alpha) ** t) for t in range(0, 128, 2)], kind)
        p.text(*where, words, "small", "start")
    return p


def chunk() -> Picture:
    """Tokens of a chunk share the place where gradients are taken."""
    p = Picture(
        "chunk",
        720,
        240,
        "Chunk: tokens that share the place of their gradients",
        "Two chunks of four tokens. All gradients of a chunk are taken at the memory as it was at the "
        "beginning of the chunk, but every token is written and read one after the other.",
    )
    for c in range(2):
        x = 20 + 350 * c
        p.box(x, 20, 330, 150, kind="box")
        p.box(x + 10, 35, 72, 56, "M", "at the start", kind="memory")
        for i in range(4):
            left = x + 100 + 56 * i
            p.box(left, 110, 46, 44, f"x{'₁₂₃₄₅₆₇₈'[4 * c + i]}")
            p.arrow((x + 82, 63), (left + 23, 63), (left + 23, 110))
        p.text(x + 210, 52, "gradients", "small soft")
    p.arrow((350, 95), (370, 95))
    p.text(360, 195, "Gradients of a chunk are computed together, as products of matrices.")
    p.text(360, 216, "Each token is still written, and then read, after those before it.", "soft")
    return p


def persistent() -> Picture:
    """Persistent memory: learned tokens before the stream."""
    p = Picture(
        "persistent",
        720,
        190,
        "Persistent memory: learned tokens before the stream",
        "Learned tokens stand before the tokens of the stream. Training changes them; reading does not.",
    )
    for i in range(4):
        p.box(20 + 62 * i, 40, 52, 46, f"p{'₁₂₃₄'[i]}", kind="fixed")
    for i in range(6):
        p.box(290 + 62 * i, 40, 52, 46, f"x{'₁₂₃₄₅₆'[i]}")
    p.text(690, 68, "…", "strong")
    p.text(138, 25, "persistent memory P", "strong")
    p.text(470, 25, "the stream", "strong")
    p.text(138, 112, "learned in training,", "small soft")
    p.text(138, 130, "the same for every stream", "small soft")
    p.text(470, 112, "read into the long-term memory,", "small soft")
    p.text(470, 130, "which starts at M₀ for every stream", "small soft")
    p.text(360, 172, "Knowledge of the task is in P and M₀; knowledge of this stream is in M.")
    return p


def lmm() -> Picture:
    """The memory alone."""
    p = Picture(
        "lmm", 720, 130, "LMM: the memory alone",
        "The stream passes the long-term memory, which is written and read at every token.",
    )  # fmt: skip
    p.box(20, 40, 130, 50, "stream x")
    p.box(270, 35, 190, 60, "long-term memory", "writes x, then reads", kind="memory")
    p.box(570, 40, 130, 50, "output")
    p.arrow((150, 65), (270, 65))
    p.arrow((460, 65), (570, 65))
    return p


def mac() -> Picture:
    """Memory as context."""
    p = Picture(
        "mac", 720, 250, "MAC: memory as context",
        "A segment asks the memory. Attention reads the persistent tokens, what was recalled and the "
        "segment. The result and the segment are written to the memory, and the output adds attention "
        "and memory.",
    )  # fmt: skip
    p.box(20, 100, 110, 50, "segment S")
    p.box(180, 20, 150, 56, "memory", "recalls h for S", kind="memory")
    p.box(180, 180, 150, 50, "persistent P", kind="fixed")
    p.box(380, 95, 130, 60, "attention", "over P, h, S", kind="attention")
    p.box(400, 15, 170, 56, "memory", "writes, then reads", kind="memory")
    p.box(620, 100, 80, 50, "sum")
    p.arrow((75, 100), (75, 48), (180, 48))
    p.arrow((130, 125), (380, 125))
    p.arrow((255, 76), (255, 110), (380, 110))
    p.arrow((330, 205), (355, 205), (355, 140), (380, 140))
    p.arrow((445, 95), (445, 71))
    p.arrow((510, 125), (620, 125))
    p.arrow((570, 43), (660, 43), (660, 100))
    p.text(570, 180, "the next segment recalls", "small soft")
    p.text(570, 197, "what this one wrote", "small soft")
    return p


def mag() -> Picture:
    """Memory as gate."""
    p = Picture(
        "mag", 720, 190, "MAG: memory as gate",
        "The stream passes sliding-window attention and the memory side by side; the memory's output "
        "gates that of the attention.",
    )  # fmt: skip
    p.box(20, 70, 110, 50, "stream x")
    p.box(
        240, 20, 220, 56, "sliding-window attention", "the last 64 tokens, and P", kind="attention"
    )
    p.box(240, 115, 220, 56, "long-term memory", "everything before", kind="memory")
    p.box(570, 70, 130, 50, "gate", "y · SiLU(m)")
    p.arrow((130, 95), (185, 95), (185, 48), (240, 48))
    p.arrow((130, 95), (185, 95), (185, 143), (240, 143))
    p.arrow((460, 48), (515, 48), (515, 85), (570, 85))
    p.arrow((460, 143), (515, 143), (515, 105), (570, 105))
    return p


def mal() -> Picture:
    """Memory as layer."""
    p = Picture(
        "mal", 720, 130, "MAL: memory as layer",
        "The stream passes the memory first, and sliding-window attention reads the memory's output.",
    )  # fmt: skip
    p.box(20, 40, 100, 50, "stream x")
    p.box(170, 35, 160, 60, "long-term memory", "writes, then reads", kind="memory")
    p.box(
        380, 35, 200, 60, "sliding-window attention", "over what was read, and P", kind="attention"
    )
    p.box(620, 40, 80, 50, "output")
    p.arrow((120, 65), (170, 65))
    p.arrow((330, 65), (380, 65))
    p.arrow((580, 65), (620, 65))
    return p


def forecast() -> Picture:
    """New York's temperature: the pretrained model's forecast of two days, and what came."""
    from titans_ts import TitansForecaster
    from titans_ts.datasets import load_demo

    # Of 52 origins three days apart, that of usual error and coverage (1.9 °C of 1.8, 83 % of 84 %).
    hours, ahead, end = 120, 48, 3912
    series = load_demo().iloc[:, 0].interpolate()
    model = TitansForecaster.from_pretrained(ahead, quantile_levels=(0.1, 0.5, 0.9))
    low, middle, high = model.predict_quantiles(series.iloc[:end]).to_numpy().T
    p = Picture(
        "forecast", 720, 300, "A forecast without a fit",
        "Hourly temperature in New York for five days, then a forecast for two days with its band from "
        "the 10 % to the 90 % quantile, beside the temperature that came.",
    )  # fmt: skip
    rows = series.iloc[end - hours : end + ahead].to_numpy()
    floor, roof = min(rows.min(), low.min()), max(rows.max(), high.max())

    def place(step: int, value: float) -> tuple[float, float]:
        return 50 + 650 * step / (hours + ahead), 240 - 205 * (value - floor) / (roof - floor)

    for degrees in range(int(floor // 5 + 1) * 5, int(roof) + 1, 5):
        p.text(40, place(0, degrees)[1] + 4, f"{degrees} °C", "small soft", "end")
        p.path([place(0, degrees), place(hours + ahead, degrees)], "line grid")
    p.area(
        [place(hours + i, v) for i, v in enumerate(low)],
        [place(hours + i, v) for i, v in enumerate(high)],
    )
    p.path([place(i, v) for i, v in enumerate(rows[: hours + 1])], "ink-line")
    p.path([place(hours + i, v) for i, v in enumerate(rows[hours:])], "ink-line dashed")
    p.path([place(hours + i, v) for i, v in enumerate(middle)], "accent-line")
    for x, line, words in ((70, "ink-line", "temperature"), (210, "ink-line dashed", "what came"),
                           (340, "accent-line", "forecast (median)")):  # fmt: skip
        p.path([(x, 280), (x + 30, 280)], line)
        p.text(x + 38, 285, words, "small", "start")
    p.bar(510, 288, 30, 16, "band")
    p.text(548, 285, "10 to 90 %", "small", "start")
    p.path([(place(hours, 0)[0], 20), (place(hours, 0)[0], 245)], "line dashed")
    return p


CONCEPTS = (surprise, momentum, forgetting, chunk, persistent, lmm, mac, mag, mal)


def main() -> None:
    """Write every picture."""
    for draw in (*CONCEPTS, forecast):
        picture = draw()
        (FOLDER / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
