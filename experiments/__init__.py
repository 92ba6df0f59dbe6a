"""One file for each result; each is a command that draws its own figure."""
