"""What was learnt once: strategies on a table of trainings, the claims of the texts, pairing, confirmation, rates."""
