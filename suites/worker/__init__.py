"""What happens inside the process that trains."""
