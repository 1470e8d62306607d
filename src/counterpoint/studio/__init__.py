"""The local web app. Its server answers before torch is loaded, and never loads it: a worker process does all that needs it."""
