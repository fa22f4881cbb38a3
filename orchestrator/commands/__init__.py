"""The commands an operator has for the store: `sandbox admin`."""
