"""What comes after training: predict, explain, check the data."""
