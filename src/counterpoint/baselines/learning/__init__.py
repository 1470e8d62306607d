"""Learn a baseline for a model: recipes, their losses, and what they are measured on."""

from counterpoint.baselines.learning.lesson import Lesson, Recipe
from counterpoint.baselines.learning.published import PublishedRecipe
from counterpoint.baselines.learning.saliency import smoothed_gradient
from counterpoint.baselines.learning.trade_off_recipe import TradeOffRecipe

__all__ = ["Lesson", "PublishedRecipe", "Recipe", "TradeOffRecipe", "smoothed_gradient"]
