"""The processes of a search: how many, started, shown, replaced."""
