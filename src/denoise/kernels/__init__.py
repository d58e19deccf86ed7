"""The same maths computed another way, where that takes less time or memory."""
