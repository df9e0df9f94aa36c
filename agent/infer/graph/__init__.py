"""Editing a .tflite file: its layers, a cut at inner layers, and further operators behind them."""
