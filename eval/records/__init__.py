"""Records of results/, and the tables and figures made from them."""
