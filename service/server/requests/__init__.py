"""What requests of the management API contain, and how they are checked."""
