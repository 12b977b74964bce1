"""What every trainer shares: where it runs, what it logs, and how it resumes."""
