"""The canary: does each device compute right, in seconds?"""
