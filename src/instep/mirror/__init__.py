"""The application's own copy of Clerk's users, organizations and memberships."""
