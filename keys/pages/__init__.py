"""What pages show of keys, and what they let people choose from: prepared for views, in words and shapes."""
