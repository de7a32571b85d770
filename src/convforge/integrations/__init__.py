"""Ways into other frameworks. Each is imported only where it is asked for."""
