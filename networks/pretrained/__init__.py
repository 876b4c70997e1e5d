"""Published weights that a training may start from: found in installed packages, else fetched."""
