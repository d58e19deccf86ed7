"""Pictures: a grid of images as PNG; a network's health as SVG; what any SVG is made of."""
