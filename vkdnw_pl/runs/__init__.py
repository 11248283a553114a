"""What a run is on disk: its folder, its record, its settings, its rows, and how it is stopped."""
