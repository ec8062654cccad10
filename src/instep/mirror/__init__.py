"""The application's own copy of users, organizations and memberships."""
