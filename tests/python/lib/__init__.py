"""What the driver is made of."""
