"""The smallest training that still has every part, for tests that ask something else than how well it learns."""

TINY = (
    *("model.width=8", "model.embedding_dim=16", "model.num_heads=2", "trainer.num_threads=1"),
    *("trainer.val_samples=16", "trainer.gap_samples=16", "solver.steps=2", "solver.images=4"),
)
