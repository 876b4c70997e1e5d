"""Speed beside accuracy, ours and the packages', on the same images with the same threads."""
