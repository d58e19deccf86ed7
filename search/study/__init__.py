"""One search: its spec, its loop, a trial, and its end."""
