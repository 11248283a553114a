"""By what a file is known as one that ``report`` has written."""

from __future__ import annotations

PAGE_MARK = 'name="generator" content="vkdnw_pl report'
"""Stands in the head of a page."""
MARKDOWN_MARK = "<!-- vkdnw_pl report -->"
"""The last line of a Markdown text; it is not shown."""
