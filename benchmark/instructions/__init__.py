"""The construction loop: instructions that are proposed, checked, tried and improved."""
