"""Operations: the intent kept before every change that touches both sides, and finished whatever happens."""
