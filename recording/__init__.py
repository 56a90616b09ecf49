"""What a run leaves behind: its directory, its events and tasks, TensorBoard curves, the progress bar and the table."""
