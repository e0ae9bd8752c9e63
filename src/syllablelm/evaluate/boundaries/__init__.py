"""Boundary detection: protocols, matching, scores, comparisons."""
