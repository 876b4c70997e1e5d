"""OpenVINO for both stages; every package may import it, and it imports none of them."""
