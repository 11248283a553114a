"""Lightning callbacks: the writer of score rows, progress, and the record of the environment."""
