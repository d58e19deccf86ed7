"""What the speed and the pairing of trials are, measured as ratios within one run."""
