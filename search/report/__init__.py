"""What is seen of a search: progress, tables, pictures, files."""
