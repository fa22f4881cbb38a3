"""The commands a build host has: `worker`, `image`, `doctor`."""
