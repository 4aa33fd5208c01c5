"""Processes: started, watched, loaded, ended. No torch."""
