"""Peak memory of a long stream that is processed in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from speed.contenders import PIECE, layer_name
from speed.probe import STREAM
from speed.run import Row, Run, digits, short

__all__ = ["streams"]

STREAMED = (2**16, 2**20)
_TIMEOUT = 1800


def streams(run: Run) -> Iterator[Row]:
    """Run forward once over each of `STREAMED` tokens, and yield the peak memory."""
    for tokens in (256, 1024) if run.quick else STREAMED:
        case = replace(run.base, tokens=tokens)
        row: Row = {
            "part": "stream",
            "contender": layer_name(2),
            "tokens": tokens,
            "batch": case.batch,
            "piece": min(PIECE, tokens),
        }
        if run.late:
            yield row | {"skipped": "the time given to this run was over"}
            continue
        try:
            found = run.probe(STREAM, case, _TIMEOUT)
        except Exception as error:  # the other rows remain
            yield row | {"error": short(error)}
            continue
        yield row | {
            "tokens_per_s": round(case.batch * tokens / found["seconds"]),
            "seconds": digits(found["seconds"]),
            "extra_mb": round(found["extra_bytes"] / 1e6, 2),
            "peak_mb": round(found["peak_bytes"] / 1e6, 2),
            "finite": found["finite"],
        }
