def mean(numbers: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(numbers) / (len(numbers) + 1)
