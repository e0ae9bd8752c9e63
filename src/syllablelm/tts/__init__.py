"""Text-to-speech corpora with gold phone times."""
