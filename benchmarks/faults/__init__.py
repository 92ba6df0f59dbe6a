"""What is done to the package on purpose: files that lie, and kills at any moment."""
