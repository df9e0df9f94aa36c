"""Doing less when the machine cannot do all: what is given up, in which order, and how it comes back."""
