"""What must never happen: silent corruption, half images under final names, crashes, hangs."""
