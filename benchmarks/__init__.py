"""How fast training steps, activations and a search are, measured as ratios within one run."""
