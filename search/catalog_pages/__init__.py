"""What `make catalog` writes: the table of components in the README, and a page for each kind."""
