"""The training of detectors: loop, evaluation, options, processes."""
