"""The loop: plan, write code, fix it, verify. Policy only; everything outside comes through the ports."""
