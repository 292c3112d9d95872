"""Measurements that no hospital needs: they are not in the wheel. Run them from the repository's root."""
