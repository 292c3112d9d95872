"""Does a bundle notice an image that is no breast ultrasound? Drawn images, and the measurement."""
