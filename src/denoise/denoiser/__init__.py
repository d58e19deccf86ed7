"""Denoisers: what a backbone is trained to predict, and the ruler that all are measured by."""
