"""Pure decisions: no clock, no dice, no file, no socket, no async."""
