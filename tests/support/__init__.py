"""What tests share: databases, servers, rows and the programs that they start."""
