"""The model registry: releases by name and version, their files by content, and who gets which."""
