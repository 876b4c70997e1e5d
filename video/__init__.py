"""Videos, cameras and streams: faces followed over time; a pipeline of ``faces`` sees each frame.

``frames`` reads, ``tracking`` follows, ``mood`` smooths, ``analyze`` joins them, ``tables`` and
``render`` write. PyAV (the extra ``video``) decodes and encodes.
"""
