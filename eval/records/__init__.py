"""Records of results/, and the tables and pictures made from them."""
