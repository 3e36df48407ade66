"""What the tasks whose rows are the tokens of sentences share."""
