"""A network looked at without a training, and several as one."""
