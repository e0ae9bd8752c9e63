"""Recordings and what is known of them: audio, manifests, corpora, alignments, syllables, voice activity, texts."""
