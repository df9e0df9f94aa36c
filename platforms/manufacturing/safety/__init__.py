"""Safety_Monitoring: conditions of alert rules about people, asked in the frame's path. Read `rules.py` first."""
