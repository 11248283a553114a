"""The commands of ``python -m vkdnw_pl``: plain typed functions whose docstrings are the help."""
