"""Components of a user's own: how their code is found, loaded, described and identified."""
