"""A study: variants of one recipe, compared over seeds and numbers of labelled persons."""
