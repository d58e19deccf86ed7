"""What is done with searches that are there: list them, put two side by side, remove one."""
