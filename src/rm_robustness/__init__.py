"""Reward models that stay right away from home: objectives, splits, exact scoring, statistics."""
