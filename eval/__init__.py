"""Measuring: classifiers, detectors and both stages together, on any data."""
