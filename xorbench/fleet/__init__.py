"""Many machines: what each rank saw, put side by side, and who of them is odd."""
