"""The page: photos in, faces and emotions out; ``page.py`` lays out, ``render/`` makes HTML."""
