"""Element-wise bijections: pure mathematics, one kind in a file."""
