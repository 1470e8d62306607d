"""What was found, for people to look at and programs to read. Importing it stays cheap: matplotlib waits until a figure is drawn."""

from counterpoint.report.card import card, describe_result
from counterpoint.report.figures import plot, save_png

__all__ = ["card", "describe_result", "plot", "save_png"]
