"""The words and the law: what people, organizations and memberships are, and which news wins. No I/O."""
