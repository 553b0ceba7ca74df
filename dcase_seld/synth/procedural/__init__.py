"""Procedural sound sources: a sound bank that needs no recording and no download."""
