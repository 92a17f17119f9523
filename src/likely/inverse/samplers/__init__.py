"""Ways to draw from posteriors: one method, one file; see `likely.inverse.problem`."""
