"""What evaluations read: annotated images, crop folders, FER2013, scores made elsewhere."""
