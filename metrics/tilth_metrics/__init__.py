"""Scoring of models: metric functions, their statistics, and the intervals of scores."""
