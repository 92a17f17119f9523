"""What a model is: its verbs, its training, its options, and how it is named and saved."""
