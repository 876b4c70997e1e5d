"""The service: faces and emotions over HTTP, and a database of feedback that becomes training data.

``commands.py`` is the command line, ``app.py`` joins the parts of the application.
"""
