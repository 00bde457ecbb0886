"""What readers are made of, and what an import does to every trajectory."""
