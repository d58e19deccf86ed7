"""What is searched: options, domains, and how a draw becomes overrides."""
