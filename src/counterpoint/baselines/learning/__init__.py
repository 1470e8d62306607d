"""Learn a baseline for a model: recipes, their losses, and what they are measured on."""

from counterpoint.baselines.learning.recipes import RECIPES, Lesson, PublishedRecipe, Recipe, TradeOffRecipe
from counterpoint.baselines.learning.saliency import smoothed_gradient

__all__ = ["RECIPES", "Lesson", "PublishedRecipe", "Recipe", "TradeOffRecipe", "smoothed_gradient"]
