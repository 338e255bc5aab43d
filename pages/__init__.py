"""What people see: one module for each page and for each part that several pages show."""
