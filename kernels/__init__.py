"""Every hand-written kernel of convforge, one room a device; nothing else lives here."""
