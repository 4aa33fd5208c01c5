"""A run: the matrix trained case by case, epoch by epoch, and recorded."""
