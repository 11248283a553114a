"""What Python code calls: the functions of ``vkdnw_pl`` itself."""
