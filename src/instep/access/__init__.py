"""Who may do what: principals and console sessions."""
