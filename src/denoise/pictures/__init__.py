"""Pictures: a grid of images as PNG, a network's health, its depth; what any figure by matplotlib shares."""
