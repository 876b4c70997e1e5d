"""The two stages joined: names and run folders → models, and the command ``twostage``."""
