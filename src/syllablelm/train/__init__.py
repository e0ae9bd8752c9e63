"""Training: one loop, and one module per stage (labels, encoder, sylboost, codebook)."""
