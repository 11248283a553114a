"""Every figure of the toolkit, drawn once with matplotlib: as a PNG of a run folder, and as SVG in the report's page."""
