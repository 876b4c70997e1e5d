"""Classifiers behind the ``EmotionClassifier`` protocol."""
