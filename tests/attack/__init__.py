"""Attack a running installation from outside, over loopback (`make attack`)."""
