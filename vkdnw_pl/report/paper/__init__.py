"""The tables and figures of the VKDNW paper beside ours: its numbers are data in this folder, the code renders them."""
