"""Operations: changes to Clerk and the database whose intent is stored first, so that they always come to an end."""
