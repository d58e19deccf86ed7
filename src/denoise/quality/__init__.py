"""How near drawn images are to real ones: distances, coverage and their intervals, on features of both."""
