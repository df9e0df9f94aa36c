"""What a good part looks like, learnt from pictures of good parts alone, and how far a picture is from it."""
