"""A LightningModule of the user's own, hosted untouched: its loss, its batches, what it logs."""
