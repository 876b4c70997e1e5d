"""Classical classifiers to compare stage 2 with, behind the same EmotionClassifier protocol."""
