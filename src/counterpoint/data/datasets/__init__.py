"""Data sets as people have them on their disks: read in place, checked when opened, one image at a time."""

from counterpoint.data.datasets.data_set import DataSet
from counterpoint.data.datasets.item import Box, Item
from counterpoint.data.datasets.opening import KINDS, open_data_set

__all__ = ["KINDS", "Box", "DataSet", "Item", "open_data_set"]
