"""Pictures of what a search found, by matplotlib."""
