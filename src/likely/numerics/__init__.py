"""Numerical methods: ordinary differential equations."""
