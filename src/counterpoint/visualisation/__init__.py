"""Feature visualisation: images that a unit, a channel, a direction or a class of a network answers to most, or least.

It takes networks and tensors and knows no files.
"""

from counterpoint.visualisation import objectives
from counterpoint.visualisation.colour import decorrelate, recorrelate
from counterpoint.visualisation.optimisation import Moment, Objective, Visualisation, optimise
from counterpoint.visualisation.parametrisations import Fourier, MaCo, Parametrisation, Pixels
from counterpoint.visualisation.spectra import bundled_spectrum, mean_spectrum, pink_spectrum
from counterpoint.visualisation.views import Crops, Views, Whole

__all__ = [
    "Crops",
    "Fourier",
    "MaCo",
    "Moment",
    "Objective",
    "Parametrisation",
    "Pixels",
    "Views",
    "Visualisation",
    "Whole",
    "bundled_spectrum",
    "decorrelate",
    "mean_spectrum",
    "objectives",
    "optimise",
    "pink_spectrum",
    "recorrelate",
]
