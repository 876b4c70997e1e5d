"""The networks of stage 2."""
