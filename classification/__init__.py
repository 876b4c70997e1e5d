"""Stage 2: face crops → emotions. Data, networks, training, the trained classifier."""
