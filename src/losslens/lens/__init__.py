"""Measure what a loss sees and what it is blind to, without training."""

from losslens.lens.changes import change_bank
from losslens.lens.compete import Competition, compete
from losslens.lens.eigendistortions import Eigendistortion, eigendistortions
from losslens.lens.metamers import Metamer, metamers
from losslens.lens.null_space import EqualColors, furthest_metamer, null_space
from losslens.lens.principal import PrincipalDistortions, principal_distortions
from losslens.lens.recovery import Recovery, recover
from losslens.lens.responses import Response, responses

__all__ = [
    "Competition",
    "Eigendistortion",
    "EqualColors",
    "Metamer",
    "PrincipalDistortions",
    "Recovery",
    "Response",
    "change_bank",
    "compete",
    "eigendistortions",
    "furthest_metamer",
    "metamers",
    "null_space",
    "principal_distortions",
    "recover",
    "responses",
]
