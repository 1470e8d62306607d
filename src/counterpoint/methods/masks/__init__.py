"""Masks found by optimisation: which part of the image has to stay, or to go, for the score to change most."""

from counterpoint.methods.masks.extremal import ExtremalPerturbation
from counterpoint.methods.masks.fgvis import FGVis
from counterpoint.methods.masks.igos import IGOS, IGOSPP
from counterpoint.methods.masks.meaningful import MeaningfulPerturbation

__all__ = ["IGOS", "IGOSPP", "ExtremalPerturbation", "FGVis", "MeaningfulPerturbation"]
