"""Values of secrets: fetched by the worker at staging, held by the attempt only (isolation-and-faults.md §4)."""
