"""What the demo page offers, makes and says; its widgets are in demo_app.py, which alone needs gradio."""
