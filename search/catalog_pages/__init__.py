"""What `make catalog` writes: a table of all components, and a page for each kind."""
