"""Speed beside accuracy, ours and the packages', on the same pictures with the same threads."""
