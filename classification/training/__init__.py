"""The training of classifiers: recipe, batches, loss, model card."""
