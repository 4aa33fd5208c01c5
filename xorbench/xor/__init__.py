"""The XOR benchmark: its cases, its training, its checks, its reports."""
