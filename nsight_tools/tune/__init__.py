"""Measuring settings of a model, and changing them one by one for as long as that helps."""
