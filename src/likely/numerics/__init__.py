"""Numerical methods: ordinary differential equations, distributions on spheres."""
