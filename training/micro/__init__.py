"""The micro model: a small Mochi trained on clips from a renderer of our own."""
