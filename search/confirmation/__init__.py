"""The finalists again on fresh seeds: which, trained how, as one model."""
