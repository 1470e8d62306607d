"""How far a map can be trusted: checks of one explanation of one image, and a verdict in words with its reasons."""
