"""What every store must do, whatever holds its leases."""
