"""The quality of the images that a confirmation drew: its record, and what the user reads of it."""
