"""Shell of the console pages: layout, responses, sign-in and keys."""
