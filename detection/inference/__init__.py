"""Detectors behind the ``Detector`` protocol."""
