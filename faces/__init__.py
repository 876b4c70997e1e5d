"""The shared vocabulary of both stages: emotions, types, pictures, crops, pipeline, sinks, drawing.

Every other package may import this one; it imports none of them, and needs numpy, Pillow and OpenCV only.
"""
