"""A network that is not this project's: what runs in it, what of it can be replaced, and its host."""
