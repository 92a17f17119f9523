"""What everything stands on: domains, the model contract, likelihoods, files."""
