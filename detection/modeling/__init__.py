"""The networks of stage 1, as parts of Detectron2, and their weights on disk."""
