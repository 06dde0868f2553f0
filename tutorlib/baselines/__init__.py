"""What counting gets: the baselines that a model has to beat."""
