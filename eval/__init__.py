"""Measuring both stages, alone and together, on any data; and the tables made from the records."""
