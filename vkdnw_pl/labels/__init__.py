"""Trains a set of architectures with one recipe, and makes an accuracy table of them."""
