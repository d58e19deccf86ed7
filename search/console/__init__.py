"""What is printed: tables that fit a screen, commands that work as printed, no password."""
