"""What users ask of a grid, one question a module."""
