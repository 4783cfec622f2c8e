"""The construction of instructions: propose, check, try, improve."""
