"""Runs side by side: is B slower than A, and what else differs?"""
