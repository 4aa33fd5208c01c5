"""What a beginner's tutorial says of this very network, each statement measured. Needs torch."""
