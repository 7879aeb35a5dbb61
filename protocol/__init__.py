"""What host and engine agree on: errors and their codes, the job record, messages."""
