"""What responses share: views, problem documents, and the counts of what was answered."""
