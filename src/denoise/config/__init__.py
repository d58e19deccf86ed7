"""Configs: composed, checked, their options and which code they may name."""
