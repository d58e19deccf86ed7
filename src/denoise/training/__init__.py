"""A training: built, run, saved, measured."""
