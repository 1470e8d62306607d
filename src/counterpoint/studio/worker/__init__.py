"""The process that does all that needs torch, and the server's end of it."""
