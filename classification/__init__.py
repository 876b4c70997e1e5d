"""Stage 2: face crops → emotions. Data, augmentation, networks, training, and the trained classifier."""
