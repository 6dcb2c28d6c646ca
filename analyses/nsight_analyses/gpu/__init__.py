"""What makes the GPU itself slow: its clock, its limits, somebody else's work, grids that leave it empty."""
