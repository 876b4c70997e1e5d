"""The page: photos in, faces and emotions out. ``app.py`` lays out, ``views.py`` computes."""
