"""What people see. Imports the shared values only, and does no work of its own."""
