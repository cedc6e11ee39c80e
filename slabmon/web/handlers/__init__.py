"""Request handlers and the bodies they answer with."""
