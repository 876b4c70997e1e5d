"""The shared vocabulary of both stages: emotions, types, images, crops, pipeline, sinks, drawing.

Every other package may import this one; it imports none of them, and needs only numpy and Pillow.
"""
