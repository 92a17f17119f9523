"""What everything stands on: columns, domains, likelihoods, targets, files, errors."""
