"""slabmon top: the terminal view. Only app, grid and screens import Textual."""
