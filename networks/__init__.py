"""What both stages' networks share: where they run, in which precision, and OpenVINO."""
