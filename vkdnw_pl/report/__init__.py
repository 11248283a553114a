"""Tables and figures made from metric rows and rankings; nothing here computes a score."""
