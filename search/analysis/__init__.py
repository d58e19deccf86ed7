"""What trials say, as numbers: rankings, tests, verdicts. The same noun in report/ shows it."""
