"""The packages that the project is compared with, each behind the project's own protocols.

They are not installed with the project: ``make peers`` puts them into ``.peers/``, those of Python
without their requirements, so that they borrow NumPy, OpenCV and PyTorch from the project and leave
its own versions alone. What runs them is a process of its own, and hands in files.
"""
