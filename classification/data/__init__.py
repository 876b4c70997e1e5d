"""FER2013, FER+ and their augmentation."""
