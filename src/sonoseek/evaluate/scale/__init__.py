"""How a gallery behaves as it grows: made-up embeddings, our engine, its peers, the page, and what scale costs."""
