"""The metrics, in numpy alone."""
