"""Options for how different simulated episodes are, the same wherever they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.variety import Variety

ConfuserOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="share of the episodes with a second cube that looks the same"),
]
LookOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="share of the episodes with light, table and colours of their own"),
]
StiffnessOption = Annotated[
    float | None,
    typer.Option(min=0, max=0.5, help="the servos' stiffness differs by up to this share either way"),
]


def variety_of(confusers: float | None, looks: float | None, stiffness: float | None) -> Variety:
    """What the options ask for; ``None`` is none of it."""
    from training.variety import Variety

    return Variety(
        confuser_share=confusers or 0.0, look_share=looks or 0.0, stiffness_spread=stiffness or 0.0
    )
