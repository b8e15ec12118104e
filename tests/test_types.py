"""The choices that the types name are those of the registries."""

from __future__ import annotations

from typing import get_args

import pytest

from titans_ts import nn, types
from titans_ts.config import PRESETS, SEQUENCE_PRESETS
from titans_ts.tuning.objective import OBJECTIVES, ObjectiveName
from titans_ts.tuning.strategies import SAMPLERS, PrunerName, SamplerName, make_pruner


@pytest.mark.parametrize(
    ("choices", "registry"),
    [
        (types.Variant, nn.BLOCKS),
        (types.Tokens, nn.TOKENS),
        (types.PresetName, PRESETS),
        (types.SequencePresetName, SEQUENCE_PRESETS),
        (types.OutputName, nn.OUTPUTS),
        (types.ScalerName, nn.SCALERS),
        (types.DNATokenizerName, nn.DNA_TOKENIZERS),
        (types.Strands, [*nn.STRANDS, "auto"]),
        (types.PoolingName, nn.POOLINGS),
        (types.SoftMasked, nn.SOFT_MASKED),
        (types.Directions, nn.DIRECTIONS),
        (ObjectiveName, OBJECTIVES),
        (SamplerName, SAMPLERS),
    ],
)
def test_the_choices_are_the_keys_of_the_registry(choices, registry):
    assert set(get_args(choices)) == set(registry)


def test_every_pruner_can_be_made():
    for name in get_args(PrunerName):
        make_pruner(name)
