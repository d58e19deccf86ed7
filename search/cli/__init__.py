"""What is typed: the verbs, the run that one is about, the processes that make starts."""
