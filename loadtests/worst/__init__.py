"""The worst case of each script within its bounds."""
