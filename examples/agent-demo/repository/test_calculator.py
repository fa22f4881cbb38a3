import unittest

from calculator import mean


class Issue42(unittest.TestCase):
    def test_mean_of_three(self) -> None:
        assert mean([1, 2, 3]) == 2


if __name__ == "__main__":
    unittest.main()
