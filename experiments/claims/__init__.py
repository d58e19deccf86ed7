"""The nine claims that the texts make about components, each tried on ours: plain stacks, toy losses, digits."""
