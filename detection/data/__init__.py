"""Face boxes for training and measuring: COCO and Dataturks files, samples for Detectron2."""
