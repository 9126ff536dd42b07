"""What people type: flags, exit codes and printing, one file per command."""
