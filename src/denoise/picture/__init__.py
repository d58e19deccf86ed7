"""Pictures: a grid of images as PNG; a network's health as SVG."""
