"""What people read: terminal screens, plans, and the HTML report."""
