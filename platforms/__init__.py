"""What runs alike at the edge and in the cloud: each platform's schema, pure analytics and functions."""
