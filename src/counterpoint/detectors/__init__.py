"""Detectors: why was this object found, and why there? Scores of one detection, for every method and metric."""

from counterpoint.detectors.building import hf_detector, is_detector, torchvision_detector
from counterpoint.detectors.candidates import Candidates, Detection, Reported
from counterpoint.detectors.detector import Detector
from counterpoint.detectors.measures import box_masks, energy_in_box, pointing_in_box
from counterpoint.detectors.network import Network
from counterpoint.detectors.one_stage import OneStage
from counterpoint.detectors.queries import Queries
from counterpoint.detectors.score import DetectionScore, detection
from counterpoint.detectors.sizing import Sizing
from counterpoint.detectors.two_stage import TwoStage

__all__ = [
    "Candidates",
    "Detection",
    "DetectionScore",
    "Detector",
    "Network",
    "OneStage",
    "Queries",
    "Reported",
    "Sizing",
    "TwoStage",
    "box_masks",
    "detection",
    "energy_in_box",
    "hf_detector",
    "is_detector",
    "pointing_in_box",
    "torchvision_detector",
]
