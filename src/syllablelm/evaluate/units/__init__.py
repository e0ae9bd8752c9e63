"""Properties of units: purity, bit rate, stability, phones and words they keep."""
