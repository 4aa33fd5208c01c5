"""What was seen: frozen records, and the files they live in. No torch."""
