"""The long forms behind `make attack` and `make ordinary`; pytest runs short forms of them."""
