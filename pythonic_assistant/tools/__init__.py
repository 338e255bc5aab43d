"""Built-in tools: what generated code may call, and what runs for it on the host."""
